// Package image makes what machines boot and keeps what they are given.
//
// [BuildDebian] makes a raw disk image of Debian that boots by BIOS and by
// UEFI with Secure Boot, [BuildRamdisk] the kernel and ramdisk in which the
// installing agent runs, and [FetchLoaders] takes the network loaders out of
// Debian's own package. Nothing here needs a loop device, and two builds from
// the same packages give the same bytes.
//
// A [Store] keeps raw images, ours and imported ones, as content-addressed
// chunks: what two images have in common is kept once, what a node has already
// written need not be sent again, and a damaged chunk is told by its name.
package image
