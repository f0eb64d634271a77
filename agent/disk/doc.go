// Package disk knows the disks of this machine: it lists them with names that
// stay the same from boot to boot, tells what they hold, wipes them, and
// writes an image to one of them.
//
// Nothing is written before the disk proved to be the planned one ([Check]).
// A disk that was written by half does not boot: its partition table goes on
// it last ([Writer]).
package disk
