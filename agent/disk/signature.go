package disk

import (
	"bytes"
	"encoding/binary"
	"io"
)

// A magic is a text at a place that gives away what a disk holds.
type magic struct {
	name string
	at   int64
	text string
}

// magics in the order in which they are looked for: what would be found
// inside of another comes after it.
var magics = []magic{
	{"gpt", 512, "EFI PART"},
	{"gpt", 4096, "EFI PART"},
	{"luks", 0, "LUKS\xba\xbe"},
	{"lvm", 512, "LABELONE"},
	{"lvm", 0, "LABELONE"},
	{"md", 4096, "\xfc\x4e\x2b\xa9"},
	{"md", 0, "\xfc\x4e\x2b\xa9"},
	{"xfs", 0, "XFSB"},
	{"btrfs", 65536 + 64, "_BHRfS_M"},
	{"squashfs", 0, "hsqs"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"iso9660", 32769, "CD001"},
	{"zfs", 131072, "\x0c\xb1\xba\x00\x00\x00\x00\x00"},
	{"ntfs", 3, "NTFS    "},
	{"vfat", 82, "FAT32   "},
	{"vfat", 54, "FAT16   "},
	{"vfat", 54, "FAT12   "},
}

// Signature says what a disk or partition of the given size holds: "gpt",
// "mbr", "ext4", "lvm", …, or "" when nothing known is on it.
func Signature(r io.ReaderAt, size int64) string {
	head := make([]byte, min(size, 132*1024))
	n, _ := r.ReadAt(head, 0)
	head = head[:n]
	for _, m := range magics {
		if at(head, m.at, len(m.text)) == m.text {
			return m.name
		}
	}
	if name := extName(head); name != "" {
		return name
	}
	if mdAtEnd(r, size) {
		return "md"
	}
	if isMBR(head) {
		return "mbr"
	}
	return ""
}

func at(b []byte, off int64, n int) string {
	if off+int64(n) > int64(len(b)) {
		return ""
	}
	return string(b[off : off+int64(n)])
}

// extName tells the ext file systems apart by their features.
func extName(head []byte) string {
	const super = 1024
	if at(head, super+0x38, 2) != "\x53\xef" || len(head) < super+0x68 {
		return ""
	}
	compat := binary.LittleEndian.Uint32(head[super+0x5c:])
	incompat := binary.LittleEndian.Uint32(head[super+0x60:])
	switch {
	case incompat&(0x40|0x80|0x200) != 0: // extents, 64bit, flex_bg
		return "ext4"
	case compat&0x4 != 0: // journal
		return "ext3"
	default:
		return "ext2"
	}
}

// mdAtEnd finds Linux RAID superblocks of the versions 0.90 and 1.0, which
// are at the end.
func mdAtEnd(r io.ReaderAt, size int64) bool {
	for _, off := range []int64{size&^0xffff - 0x10000, (size - 8192) &^ 0xfff} {
		block := make([]byte, 4)
		if off <= 0 {
			continue
		}
		n, _ := r.ReadAt(block, off)
		if n == 4 && bytes.Equal(block, []byte("\xfc\x4e\x2b\xa9")) {
			return true
		}
	}
	return false
}

// isMBR wants at least one plausible partition: boot sectors of file systems
// end in the same two bytes.
func isMBR(head []byte) bool {
	if at(head, 510, 2) != "\x55\xaa" {
		return false
	}
	for i := range 4 {
		e := head[446+16*i:]
		if (e[0] == 0 || e[0] == 0x80) && e[4] != 0 && binary.LittleEndian.Uint32(e[12:]) > 0 {
			return true
		}
	}
	return false
}
