// Package iso lays out CD images that machines boot, without writing them
// anywhere.
//
// [New] takes files and says where in the image each of them is; what it returns
// is read at any place, and asks the files for what is theirs. So a server has
// an image of its own for each machine, and neither copies a kernel for it nor
// holds one in memory.
//
// The file system is ISO 9660 (ECMA-119) without extensions: what boots from it
// is GRUB, which finds files whatever the case of their names. A BIOS starts
// the file that El Torito's default entry names, a UEFI looks into the file
// system that its EFI entry names.
package iso
