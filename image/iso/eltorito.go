package iso

import (
	"encoding/binary"
	"fmt"
)

// El Torito (1.0, 1995) is how firmware finds what to boot: a boot record names
// a catalog, whose entries name images. UEFI takes the ones of its platform.
const (
	platformBIOS = 0
	platformEFI  = 0xef

	catalogEntry = 32
	floppySector = 512 // what entries count in
)

func bootRecord(b []byte, catalog uint32) {
	descriptor(b, 0)
	copy(b[7:], "EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(b[0x47:], catalog)
}

// bootCatalog writes the catalog: the default entry is that of a BIOS, that of
// UEFI is in a section of its own. Where there is nothing for a BIOS, the
// default is UEFI's.
func (l *layout) bootCatalog(b []byte) {
	platform, first := byte(platformBIOS), l.bios
	if first == nil {
		platform, first = platformEFI, l.efi
	}
	b[0], b[1] = 1, platform
	b[30], b[31] = 0x55, 0xaa
	var sum uint16
	for i := 0; i < catalogEntry; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	binary.LittleEndian.PutUint16(b[28:], -sum) // all words of the entry make zero
	bootEntry(b[catalogEntry:], first, first == l.bios)
	if l.efi == nil || first == l.efi {
		return
	}
	section := b[2*catalogEntry:]
	section[0], section[1] = 0x91, platformEFI // the last one
	binary.LittleEndian.PutUint16(section[2:], 1)
	bootEntry(section[catalogEntry:], l.efi, false)
}

// bootEntry names an image. A BIOS is told to load the first sector of the CD
// alone, because many cannot load more: GRUB loads the rest itself.
func bootEntry(b []byte, f *file, bios bool) {
	b[0] = 0x88 // can be booted, as it is
	count := (f.Size + floppySector - 1) / floppySector
	if bios {
		count = sector / floppySector
	}
	binary.LittleEndian.PutUint16(b[6:], uint16(min(count, 1<<16-1)))
	binary.LittleEndian.PutUint32(b[8:], f.at)
}

// The boot information table, which mkisofs has brought up, tells the image
// that a BIOS starts where it is on the CD.
const (
	infoTable = 8
	infoEnd   = 64
)

// told returns what is to stand at the start of the image that a BIOS starts.
// GRUB does not look at the table's checksum, for which all of the image would
// have to be read: it stays zero.
func (f *file) told() ([]byte, error) {
	if f.Size < sector || f.Size > maxBIOS {
		return nil, fmt.Errorf("file %s has %d bytes: a BIOS starts something between a sector and %d", f.Name, f.Size, maxBIOS)
	}
	b := make([]byte, infoEnd)
	if n, err := f.Content.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %s: %w", f.Name, err)
	}
	clear(b[infoTable:])
	binary.LittleEndian.PutUint32(b[infoTable:], sectorVolume)
	binary.LittleEndian.PutUint32(b[infoTable+4:], f.at)
	binary.LittleEndian.PutUint32(b[infoTable+8:], uint32(f.Size))
	return b, nil
}
