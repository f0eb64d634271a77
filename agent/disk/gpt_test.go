package disk

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

var testParts = []GPTPart{
	{Type: typeESP, First: 34, Last: 97, Name: "esp"},
	{Type: "0fc63daf-8483-4772-8e79-3d69d8477de4", First: 98, Last: 200, Name: "Root"},
}

// guid turns text around into the order of the table.
func guid(tb testing.TB, s string) (g GUID) {
	tb.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil {
		tb.Fatal(err)
	}
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		g[i] = raw[from]
	}
	return g
}

// gptDisk makes a disk with these partitions.
func gptDisk(tb testing.TB, block int, parts []GPTPart) []byte {
	tb.Helper()
	b := make([]byte, 64*block)
	entries := b[2*block:][:128*128]
	for i, p := range parts {
		e := entries[i*128:]
		kind := guid(tb, p.Type)
		copy(e, kind[:])
		e[16] = byte(i + 1)
		le.PutUint64(e[32:], uint64(p.First))
		le.PutUint64(e[40:], uint64(p.Last))
		for j, c := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*j:], c)
		}
	}
	h := b[block:]
	copy(h, "EFI PART\x00\x00\x01\x00")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return b
}

func TestReadGPT(t *testing.T) {
	for _, block := range []int{512, 4096} {
		parts, err := ReadGPT(bytes.NewReader(gptDisk(t, block, testParts)))
		if err != nil {
			t.Fatalf("blocks of %d: %v", block, err)
		}
		if len(parts) != 2 || parts[1].Name != "Root" || parts[1].Number != 2 || parts[1].First != 98 || parts[1].Last != 200 || parts[0].Type != typeESP {
			t.Errorf("blocks of %d: %+v", block, parts)
		}
	}
}

func TestReadGPTRefuses(t *testing.T) {
	tests := map[string]func(b []byte) []byte{
		"a blank disk":            func(b []byte) []byte { clear(b); return b },
		"a disk of a few bytes":   func(b []byte) []byte { return b[:1000] },
		"a broken header":         func(b []byte) []byte { b[512+40]++; return b },
		"broken entries":          func(b []byte) []byte { b[1024+8]++; return b },
		"a header of a gigabyte":  func(b []byte) []byte { le.PutUint32(b[512+12:], 1<<30); return b },
		"a billion of entries":    func(b []byte) []byte { return sealed(b, 80, 1<<30) },
		"entries of a gigabyte":   func(b []byte) []byte { return sealed(b, 84, 1<<30) },
		"entries of no size":      func(b []byte) []byte { return sealed(b, 84, 0) },
		"entries beyond the disk": func(b []byte) []byte { return sealed(b, 72, 1<<20) },
		"entries over the header": func(b []byte) []byte { return sealed(b, 72, 1) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			if parts, err := ReadGPT(bytes.NewReader(spoil(gptDisk(t, 512, testParts)))); err == nil {
				t.Errorf("ReadGPT = %+v, want an error", parts)
			}
		})
	}
}

// sealed changes a header's field and makes its checksum right again.
func sealed(b []byte, at int, value uint32) []byte {
	h := b[512:]
	le.PutUint32(h[at:], value)
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return b
}

func TestRootIsFound(t *testing.T) {
	const linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	tests := map[string]struct {
		parts []GPTPart
		want  int
	}{
		"by its type":                 {[]GPTPart{{Number: 1, Type: linux, Name: "root"}, {Number: 2, Type: typeRootAMD64}}, 2},
		"by its name":                 {[]GPTPart{{Number: 1, Type: linux, Name: "ROOT"}, {Number: 2, Type: linux, Name: "var"}}, 1},
		"else the last one with ext4": {[]GPTPart{{Number: 1, Type: linux}, {Number: 2, Type: linux}, {Number: 9, Type: linux}}, 2},
		"or not at all":               {[]GPTPart{{Number: 9, Type: linux}}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, ok := Root(tt.parts, func(p GPTPart) string {
				if p.Number < 9 {
					return "ext4"
				}
				return "vfat"
			})
			if ok != (tt.want > 0) || p.Number != tt.want {
				t.Errorf("Root = %+v, %v, want number %d", p, ok, tt.want)
			}
		})
	}
}

func TestTableOfSfdiskIsRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sfdisk", "-q", name)
	cmd.Stdin = strings.NewReader("label: gpt\nstart=2048, size=20480, type=U\nstart=22528, size=40960, type=" + strings.ToUpper(typeRootAMD64) + ", name=\"système\"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // read only
	parts, err := ReadGPT(f.Small())
	if err != nil || len(parts) != 2 {
		t.Fatalf("ReadGPT = %+v, %v", parts, err)
	}
	esp, ok := ESP(parts)
	if !ok || esp.Number != 1 || esp.First != 2048 || esp.Last != 22527 {
		t.Errorf("ESP = %+v, %v", esp, ok)
	}
	root, ok := Root(parts, func(GPTPart) string { return "" })
	if !ok || root.Number != 2 || root.Name != "système" {
		t.Errorf("Root = %+v, %v", root, ok)
	}
}
