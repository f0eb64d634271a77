// Package ramdisk is what a bare machine runs between its boot loader and the
// agent: the first process, kernel modules, network, console.
//
// There is no shell and no other program, but in the rescue system (package
// rescue). The first process does nothing but
// start the agent again when it ends ([Supervise]); the kernel asks this same
// binary for modules instead of modprobe ([Modprobe]).
package ramdisk
