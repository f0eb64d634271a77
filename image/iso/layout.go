package iso

import (
	"encoding/binary"
	"errors"
	"time"
)

// The sectors that are where they are in every image.
const (
	sectorVolume     = 16 // primary volume descriptor
	sectorBoot       = 17 // El Torito's boot record
	sectorTerminator = 18
	sectorPaths      = 19 // the path tables begin
)

// A layout says where everything is.
type layout struct {
	t          *tree
	pathBytes  uint32 // of one path table
	pathL      uint32
	pathM      uint32
	catalog    uint32 // El Torito's boot catalog; 0 for none
	headEnd    uint32
	end        uint32
	bios, efi  *file
	told       []byte // start of what a BIOS starts
	volumeTime time.Time
}

// padding is how many sectors follow the last file, as in what mkisofs makes:
// those who read CDs read ahead. GRUB on a BIOS was seen to get wrong bytes at
// the end of a last file that was the end of the CD too.
const padding = 150

func sectors(bytes int64) uint32 { return uint32((bytes + sector - 1) / sector) }

// place gives everything its sectors: descriptors, path tables, boot catalog,
// folders, files.
func place(t *tree, o Options) (*layout, error) {
	t.order()
	l := &layout{t: t, volumeTime: o.Made.UTC()}
	for _, d := range t.folders {
		l.pathBytes += uint32(len(pathRecord(d, binary.LittleEndian)))
	}
	l.pathL = sectorPaths
	l.pathM = l.pathL + sectors(int64(l.pathBytes))
	next := l.pathM + sectors(int64(l.pathBytes))
	if o.BIOS != "" || o.EFI != "" {
		l.catalog = next
		next++
	}
	for _, d := range t.folders {
		d.at, d.sectors = next, folderSectors(d)
		next += d.sectors
	}
	l.headEnd = next
	end := int64(next)
	for _, f := range t.files {
		f.at = uint32(end)
		if end += int64(sectors(f.Size)); end > maxImage/sector {
			return nil, errors.New("it would be too large")
		}
	}
	l.end = uint32(end) + padding
	return l, l.boots(o)
}

// boots finds what firmware starts. GRUB is told where it is in the image.
func (l *layout) boots(o Options) (err error) {
	if o.BIOS != "" {
		if l.bios, err = l.t.find(o.BIOS); err != nil {
			return err
		}
		if l.told, err = l.bios.told(); err != nil {
			return err
		}
	}
	if o.EFI != "" {
		l.efi, err = l.t.find(o.EFI)
	}
	return err
}

// head returns everything before the first file.
func (l *layout) head(o Options) []byte {
	b := make([]byte, int64(l.headEnd)*sector)
	at := func(s uint32) []byte { return b[int64(s)*sector:] }
	l.volume(at(sectorVolume)[:sector], o)
	if l.catalog != 0 {
		bootRecord(at(sectorBoot)[:sector], l.catalog)
		l.bootCatalog(at(l.catalog)[:sector])
	} else {
		descriptor(at(sectorBoot), 255)
	}
	descriptor(at(sectorTerminator), 255)
	little, big := at(l.pathL), at(l.pathM)
	for _, d := range l.t.folders {
		little = little[copy(little, pathRecord(d, binary.LittleEndian)):]
		big = big[copy(big, pathRecord(d, binary.BigEndian)):]
		l.folder(at(d.at)[:int64(d.sectors)*sector], d)
	}
	return b
}

// descriptor begins a volume descriptor.
func descriptor(b []byte, kind byte) {
	b[0] = kind
	copy(b[1:], "CD001\x01")
}

// volume writes the primary volume descriptor (ECMA-119 §8.4).
func (l *layout) volume(b []byte, o Options) {
	descriptor(b, 1)
	padded(b[8:40], "")
	padded(b[40:72], o.Label)
	both32(b[80:], l.end)
	both16(b[120:], 1)
	both16(b[124:], 1)
	both16(b[128:], sector)
	both32(b[132:], l.pathBytes)
	binary.LittleEndian.PutUint32(b[140:], l.pathL)
	binary.BigEndian.PutUint32(b[148:], l.pathM)
	copy(b[156:190], l.record("\x00", l.t.root.at, l.t.root.sectors*sector, true))
	for _, text := range [][2]int{{190, 318}, {318, 446}, {574, 702}, {702, 739}, {739, 776}, {776, 813}} {
		padded(b[text[0]:text[1]], "")
	}
	padded(b[446:574], "PROVISION")
	made := l.volumeTime.Format("20060102150405") + "00\x00"
	for i, when := range []string{made, made, "0000000000000000\x00", "0000000000000000\x00"} {
		copy(b[813+17*i:], when)
	}
	b[881] = 1
}

// record makes a directory record (ECMA-119 §9.1).
func (l *layout) record(name string, at, size uint32, isFolder bool) []byte {
	b := make([]byte, recordSize(name))
	b[0] = byte(len(b))
	both32(b[2:], at)
	both32(b[10:], size)
	t := l.volumeTime
	copy(b[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	if isFolder {
		b[25] = 2
	}
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return b
}

func recordSize(name string) int { return (33 + len(name) + 1) &^ 1 }

// folder writes the records of a folder. None goes over the end of a sector.
func (l *layout) folder(b []byte, d *folder) {
	used := 0
	put := func(r []byte) {
		if used%sector+len(r) > sector {
			used = (used/sector + 1) * sector
		}
		used += copy(b[used:], r)
	}
	put(l.record("\x00", d.at, d.sectors*sector, true))
	put(l.record("\x01", d.parent.at, d.parent.sectors*sector, true))
	eachChild(d, func(name string, sub *folder, f *file) {
		if sub != nil {
			put(l.record(name, sub.at, sub.sectors*sector, true))
		} else {
			put(l.record(name, f.at, uint32(f.Size), false))
		}
	})
}

// folderSectors returns how many sectors the records of a folder take.
func folderSectors(d *folder) uint32 {
	used := 2 * recordSize("\x00")
	eachChild(d, func(name string, _ *folder, _ *file) {
		n := recordSize(name)
		if used%sector+n > sector {
			used = (used/sector + 1) * sector
		}
		used += n
	})
	return sectors(int64(used))
}

// eachChild goes through what is in a folder, by name (ECMA-119 §9.3).
func eachChild(d *folder, do func(name string, sub *folder, f *file)) {
	i := 0
	for _, f := range d.files {
		for ; i < len(d.folders) && d.folders[i].name < f.name; i++ {
			do(d.folders[i].name, d.folders[i], nil)
		}
		do(f.name, nil, f)
	}
	for ; i < len(d.folders); i++ {
		do(d.folders[i].name, d.folders[i], nil)
	}
}

// pathRecord is a folder in a path table (ECMA-119 §9.4).
func pathRecord(d *folder, order binary.ByteOrder) []byte {
	b := make([]byte, (8+len(d.name)+1)&^1)
	b[0] = byte(len(d.name))
	order.PutUint32(b[2:], d.at)
	order.PutUint16(b[6:], d.parent.nr)
	copy(b[8:], d.name)
	return b
}

// both16 and both32 write a number in either byte order (ECMA-119 §7.2.3,
// §7.3.3).
func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func padded(b []byte, text string) {
	for i := copy(b, text); i < len(b); i++ {
		b[i] = ' '
	}
}
