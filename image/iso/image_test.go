package iso_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/image/iso"
)

var made = time.Date(2026, 11, 30, 12, 13, 14, 0, time.UTC)

// content is what a file of a test has in it: no two sectors are alike.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	chacha := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = chacha.Read(b)
	return b
}

func file(name string, b []byte) iso.File {
	return iso.File{Name: name, Size: int64(len(b)), Content: bytes.NewReader(b)}
}

// bootable is an image with all that ours have, small.
func bootable(tb testing.TB) (*iso.Image, map[string][]byte) {
	tb.Helper()
	in := map[string][]byte{
		"boot/grub/grub.cfg": []byte("echo hello\n"), ".disk/info": []byte("provision"), "cd-bios.img": content(1, 30_001), "cd-x64.img": content(2, 1<<20),
		"vmlinuz": content(3, 100_000), "initrd.img": content(4, 2048*50), "empty": {},
	}
	o := iso.Options{Label: "PROVISION", Made: made, BIOS: "cd-bios.img", EFI: "cd-x64.img"}
	for _, name := range []string{"boot/grub/grub.cfg", ".disk/info", "cd-bios.img", "empty", "cd-x64.img", "vmlinuz", "initrd.img"} {
		o.Files = append(o.Files, file(name, in[name]))
	}
	m, err := iso.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return m, in
}

func whole(tb testing.TB, m *iso.Image) []byte {
	tb.Helper()
	b, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
	if err != nil || int64(len(b)) != m.Size() {
		tb.Fatalf("read %d of %d bytes: %v", len(b), m.Size(), err)
	}
	return b
}

// xorriso is no relative of this package: what it finds in an image is what is
// there.
func TestAnotherProgramFindsEveryFileInAnImage(t *testing.T) {
	m, in := bootable(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "a.iso")
	if err := os.WriteFile(image, whole(t, m), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	said, err := exec.CommandContext(t.Context(), "xorriso", "-no_rc", "-osirrox", "on", "-indev", image, "-report_el_torito", "plain", "-extract", "/", out).CombinedOutput()
	if err != nil {
		t.Fatalf("xorriso: %v\n%s", err, said)
	}
	for _, want := range []string{"Volume id    : 'PROVISION'", "El Torito boot img :   1  BIOS  y   none", "El Torito boot img :   2  UEFI  y   none"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("xorriso does not say %q:\n%s", want, said)
		}
	}
	for name, want := range in {
		got, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(strings.ToUpper(name))))
		if err != nil {
			t.Error(err)
			continue
		}
		if name == "cd-bios.img" { // it is told where it is
			clear(want[8:64])
			clear(got[8:64])
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is another in the image: %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestFoldersWithManyFilesAreFoundByAnotherProgram(t *testing.T) {
	o := iso.Options{Label: "MANY", Made: made}
	want := map[string]string{}
	for i := range 300 { // more than a sector of records, and of folders
		name := fmt.Sprintf("deep/folder-%d/more/file-with-a-long-name-%d.txt", i%40, i)
		text := fmt.Sprint("this is ", i)
		want[strings.ToUpper(name)] = text
		o.Files = append(o.Files, file(name, []byte(text)))
	}
	m, err := iso.New(o)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "a.iso")
	if err := os.WriteFile(image, whole(t, m), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if said, err := exec.CommandContext(t.Context(), "xorriso", "-no_rc", "-osirrox", "on", "-indev", image, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, said)
	}
	got := map[string]string{}
	err = filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(out, path)
		b, err := os.ReadFile(path)
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What firmware reads: El Torito's entries, and the table that GRUB is told its
// place with.
func TestFirmwareIsLedToWhatItStarts(t *testing.T) {
	m, in := bootable(t)
	b := whole(t, m)
	catalog := b[2048*binary.LittleEndian.Uint32(b[17*2048+0x47:]):]
	at := func(entry []byte) uint32 { return binary.LittleEndian.Uint32(entry[8:]) }
	bios, efi := catalog[32:64], catalog[96:128]
	if bios[0] != 0x88 || efi[0] != 0x88 || catalog[64] != 0x91 || catalog[65] != 0xef {
		t.Fatalf("catalog is %x", catalog[:128])
	}
	if sum := words(catalog[:32]); sum != 0 {
		t.Errorf("the words of the first entry make %x", sum)
	}
	grub := b[2048*at(bios):]
	if got := binary.LittleEndian.Uint32(grub[12:]); got != at(bios) {
		t.Errorf("GRUB is told that it is at %d, and is at %d", got, at(bios))
	}
	if got := binary.LittleEndian.Uint32(grub[16:]); int(got) != len(in["cd-bios.img"]) {
		t.Errorf("GRUB is told that it has %d bytes, and has %d", got, len(in["cd-bios.img"]))
	}
	if !bytes.HasPrefix(b[2048*at(efi):], in["cd-x64.img"]) {
		t.Error("UEFI is led to something else")
	}
	if got := binary.LittleEndian.Uint16(efi[6:]); int(got)*512 != len(in["cd-x64.img"]) {
		t.Errorf("UEFI is told of %d sectors", got)
	}
}

// GRUB on a BIOS reads ahead, and does not get over the end of the CD.
func TestNoFileIsAtTheEndOfAnImage(t *testing.T) {
	m, in := bootable(t)
	b := whole(t, m)
	at := bytes.Index(b, in["initrd.img"])
	if at < 0 || len(b)-at-len(in["initrd.img"]) < 64<<10 {
		t.Errorf("the last file ends %d bytes before the end", len(b)-at-len(in["initrd.img"]))
	}
}

func words(b []byte) (sum uint16) {
	for ; len(b) > 0; b = b[2:] {
		sum += binary.LittleEndian.Uint16(b)
	}
	return sum
}

func TestAnImageForUEFIAloneHasNothingForABIOS(t *testing.T) {
	m, err := iso.New(iso.Options{Label: "ARM", Made: made, Files: []iso.File{file("cd-arm64.img", content(1, 4096))}, EFI: "cd-arm64.img"})
	if err != nil {
		t.Fatal(err)
	}
	b := whole(t, m)
	catalog := b[2048*binary.LittleEndian.Uint32(b[17*2048+0x47:]):]
	if catalog[1] != 0xef || catalog[32] != 0x88 || catalog[64] != 0 {
		t.Errorf("catalog is %x", catalog[:96])
	}
}

func TestAnImageIsReadAsAReaderAtIs(t *testing.T) {
	m, _ := bootable(t)
	if err := iotest.TestReader(io.NewSectionReader(m, 0, m.Size()), whole(t, m)); err != nil {
		t.Error(err)
	}
	if n, err := m.ReadAt(make([]byte, 10), m.Size()-4); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("over its end: %d, %v", n, err)
	}
	if n, err := m.ReadAt(make([]byte, 1), m.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind its end: %d, %v", n, err)
	}
	if _, err := m.ReadAt(make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("before its start: %v", err)
	}
}

func TestAFileThatBecameShorterIsNoticed(t *testing.T) {
	short := iso.File{Name: "vmlinuz", Size: 5000, Content: bytes.NewReader(make([]byte, 4000))}
	m, err := iso.New(iso.Options{Label: "X", Made: made, Files: []iso.File{short, file("after", content(1, 10))}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size())); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading it: %v", err)
	}
}

func TestWhatCannotBeAnImageIsRefused(t *testing.T) {
	one := file("a", []byte("x"))
	tests := map[string]struct {
		o    iso.Options
		want string
	}{
		"a label in small letters":     {iso.Options{Label: "x"}, "label"},
		"a file above the image":       {iso.Options{Label: "X", Files: []iso.File{file("../a", nil)}}, "file name"},
		"a file with a slash in front": {iso.Options{Label: "X", Files: []iso.File{file("/a", nil)}}, "file name"},
		"a file in capitals":           {iso.Options{Label: "X", Files: []iso.File{file("A", nil)}}, "file name"},
		"a file twice":                 {iso.Options{Label: "X", Files: []iso.File{one, one}}, "twice"},
		"a file without content":       {iso.Options{Label: "X", Files: []iso.File{{Name: "a", Size: 1}}}, "bytes"},
		"a file that is too large":     {iso.Options{Label: "X", Files: []iso.File{{Name: "a", Size: 1 << 32, Content: one.Content}}}, "bytes"},
		"nothing to boot":              {iso.Options{Label: "X", Files: []iso.File{one}, EFI: "b"}, "no file"},
		"less than a sector to boot":   {iso.Options{Label: "X", Files: []iso.File{one}, BIOS: "a"}, "sector"},
		"too much for a BIOS":          {iso.Options{Label: "X", Files: []iso.File{file("a", make([]byte, 2<<20))}, BIOS: "a"}, "BIOS starts"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := iso.New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want something about %q", err, tt.want)
			}
		})
	}
}

// However an image is read, it is the same: BMCs ask for ranges of any size.
func FuzzRangesOfAnImage(f *testing.F) {
	m, _ := bootable(f)
	all := whole(f, m)
	for _, r := range [][2]uint32{{0, 1}, {2047, 2}, {16 * 2048, 2048}, {0, 1 << 20}, {60_000, 300_000}, {uint32(m.Size()) - 1, 9}} {
		f.Add(r[0], r[1])
	}
	f.Fuzz(func(t *testing.T, at, size uint32) {
		off := int64(at) % (m.Size() + 10)
		p := bytes.Repeat([]byte{0xa5}, int(size%(1<<21)))
		n, err := m.ReadAt(p, off)
		want := all[min(off, m.Size()):min(off+int64(len(p)), m.Size())]
		if !bytes.Equal(p[:n], want) {
			t.Fatalf("%d bytes at %d are others", len(p), off)
		}
		if wholly := n == len(p) && (n > 0 || off < m.Size()); wholly == errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d bytes at %d: %v", n, len(p), off, err)
		}
	})
}
