package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// A GUID is sixteen bytes in the order in which GPT and EFI keep them: the
// first three fields little-endian.
type GUID [16]byte

// String returns the usual text form.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[0:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:16])
}

// Partition types that we look for.
const (
	typeESP       = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeRootAMD64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	typeRootARM64 = "b921b045-1df0-41c3-af44-4c6f280d3fae"
)

// A GPTPart is one entry of a GUID partition table.
type GPTPart struct {
	Number      int // from 1
	Type        string
	GUID        GUID
	First, Last int64 // blocks
	Block       int64 // bytes of a block
	Name        string
}

// maxEntries is far more than anybody has: sizes in a header are not believed.
const maxEntries = 1024

// ReadGPT reads the primary GUID partition table of a disk with blocks of
// 512 or of 4096 bytes (UEFI 2.10 §5.3).
func ReadGPT(r io.ReaderAt) ([]GPTPart, error) {
	head := make([]byte, 8192)
	if n, err := r.ReadAt(head, 0); n < 4096+512 {
		return nil, fmt.Errorf("read partition table: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	for _, block := range []int64{512, 4096} {
		if string(head[block:block+8]) == "EFI PART" {
			return readEntries(r, head[block:block+512], block)
		}
	}
	return nil, errors.New("read partition table: no GUID partition table")
}

func readEntries(r io.ReaderAt, h []byte, block int64) ([]GPTPart, error) {
	le := binary.LittleEndian
	length := le.Uint32(h[12:])
	if length < 92 || length > 512 {
		return nil, fmt.Errorf("read partition table: header of %d bytes", length)
	}
	sum := le.Uint32(h[16:])
	copied := append([]byte(nil), h[:length]...)
	clear(copied[16:20])
	if crc32.ChecksumIEEE(copied) != sum {
		return nil, errors.New("read partition table: wrong checksum of the header")
	}
	at, count, size := int64(le.Uint64(h[72:])), le.Uint32(h[80:]), le.Uint32(h[84:])
	if at < 2 || at > 1<<40 || count == 0 || count > maxEntries || size < 128 || size > 1024 || size%128 != 0 {
		return nil, fmt.Errorf("read partition table: %d entries of %d bytes at block %d", count, size, at)
	}
	raw := make([]byte, count*size)
	if n, err := r.ReadAt(raw, at*block); n < len(raw) {
		return nil, fmt.Errorf("read partition table: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if crc32.ChecksumIEEE(raw) != le.Uint32(h[88:]) {
		return nil, errors.New("read partition table: wrong checksum of the entries")
	}
	var parts []GPTPart
	for i := range int(count) {
		if p, ok := parseEntry(raw[i*int(size):][:128], block); ok {
			p.Number = i + 1
			parts = append(parts, p)
		}
	}
	return parts, nil
}

func parseEntry(e []byte, block int64) (GPTPart, bool) {
	le := binary.LittleEndian
	p := GPTPart{Type: GUID(e[0:16]).String(), GUID: GUID(e[16:32]), Block: block}
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if GUID(e[0:16]) == (GUID{}) || first > last || last > 1<<50 {
		return p, false
	}
	p.First, p.Last = int64(first), int64(last)
	var name []uint16
	for i := 56; i < 128; i += 2 {
		c := le.Uint16(e[i:])
		if c == 0 {
			break
		}
		name = append(name, c)
	}
	p.Name = string(utf16.Decode(name))
	return p, true
}

// Root returns the partition that holds the root file system: by its type
// (the Discoverable Partitions Specification), else by its name, else the
// last one that looks like ext4 to holds.
func Root(parts []GPTPart, holds func(GPTPart) string) (GPTPart, bool) {
	for _, p := range parts {
		if p.Type == typeRootAMD64 || p.Type == typeRootARM64 {
			return p, true
		}
	}
	for _, p := range parts {
		if name := strings.ToLower(p.Name); name == "root" || name == "rootfs" || name == "/" {
			return p, true
		}
	}
	for _, p := range slices.Backward(parts) {
		if holds(p) == "ext4" {
			return p, true
		}
	}
	return GPTPart{}, false
}

// ESP returns the EFI system partition.
func ESP(parts []GPTPart) (GPTPart, bool) {
	for _, p := range parts {
		if p.Type == typeESP {
			return p, true
		}
	}
	return GPTPart{}, false
}
