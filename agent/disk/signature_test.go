package disk

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// image is an empty disk of 1 MiB with texts at places.
func image(marks map[int]string) []byte {
	b := make([]byte, 1<<20)
	for at, text := range marks {
		copy(b[at:], text)
	}
	return b
}

func TestSignature(t *testing.T) {
	mbr := map[int]string{446: "\x80\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x00\x10\x00", 510: "\x55\xaa"}
	ext := func(compat, incompat byte) map[int]string {
		return map[int]string{1024 + 0x38: "\x53\xef", 1024 + 0x5c: string(compat), 1024 + 0x60: string(incompat)}
	}
	tests := map[string]struct {
		marks map[int]string
		want  string
	}{
		"a blank disk":              {nil, ""},
		"a boot sector without any": {map[int]string{510: "\x55\xaa"}, ""},
		"an MBR":                    {mbr, "mbr"},
		"a GPT":                     {map[int]string{512: "EFI PART", 510: "\x55\xaa"}, "gpt"},
		"a GPT with large blocks":   {map[int]string{4096: "EFI PART"}, "gpt"},
		"ext2":                      {ext(0, 2), "ext2"},
		"ext3":                      {ext(4, 2), "ext3"},
		"ext4":                      {ext(4, 0x42), "ext4"},
		"xfs":                       {map[int]string{0: "XFSB"}, "xfs"},
		"btrfs":                     {map[int]string{65600: "_BHRfS_M"}, "btrfs"},
		"lvm":                       {map[int]string{512: "LABELONE"}, "lvm"},
		"md 1.2":                    {map[int]string{4096: "\xfc\x4e\x2b\xa9"}, "md"},
		"md 1.0, at the end":        {map[int]string{1<<20 - 8192: "\xfc\x4e\x2b\xa9"}, "md"},
		"md 0.90, at the end":       {map[int]string{1<<20 - 65536: "\xfc\x4e\x2b\xa9"}, "md"},
		"luks":                      {map[int]string{0: "LUKS\xba\xbe"}, "luks"},
		"swap":                      {map[int]string{4086: "SWAPSPACE2"}, "swap"},
		"fat32":                     {map[int]string{82: "FAT32   ", 510: "\x55\xaa"}, "vfat"},
		"an installer's ISO":        {map[int]string{32769: "CD001"}, "iso9660"},
		"lvm inside of a partition table is the partition table": {map[int]string{512: "EFI PART", 1024: "LABELONE"}, "gpt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := image(tt.marks)
			if got := Signature(bytes.NewReader(b), int64(len(b))); got != tt.want {
				t.Errorf("Signature = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSignatureOfRealFileSystems(t *testing.T) {
	tests := map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-F"},
		"ext2": {"mkfs.ext2", "-q", "-F"},
		"vfat": {"mkfs.vfat"},
		"swap": {"mkswap", "-q"},
	}
	for want, command := range tests {
		t.Run(want, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(name, make([]byte, 16<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), command[0], append(command[1:], name)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", command, err, out)
			}
			if got := DeviceHolds(name, 16<<20); got != want {
				t.Errorf("DeviceHolds = %q, want %q", got, want)
			}
		})
	}
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add(image(map[int]string{1024 + 0x38: "\x53\xef"})[:1100], int64(5))
	f.Add(image(nil)[:512], int64(-1))
	f.Fuzz(func(_ *testing.T, b []byte, size int64) {
		Signature(bytes.NewReader(b), max(0, size))
	})
}

func FuzzReadGPT(f *testing.F) {
	f.Add(gptDisk(f, 512, testParts))
	f.Add(gptDisk(f, 4096, testParts))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := ReadGPT(bytes.NewReader(b))
		if err == nil && len(parts) > maxEntries {
			t.Errorf("%d partitions", len(parts))
		}
	})
}

var le = binary.LittleEndian
