package efi

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var option = LoadOption{
	Description: "provision",
	File:        `\EFI\BOOT\BOOTX64.EFI`,
	Partition: Partition{
		Number: 1, First: 2048, Blocks: 65536,
		GUID: [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b},
	},
}

// encoded is the value in pieces, as UEFI 2.10 §3.1.3 and §10.3 have them.
var encoded = strings.Join([]string{
	"01000000", // active
	"5e00",     // bytes of the path: 42 + 48 + 4
	"700072006f0076006900730069006f006e000000", // "provision"
	"04012a00", "01000000", "0008000000000000", "0000010000000000", "28732ac11ff8d211ba4b00a0c93ec93b", "02", "02",
	"04043000", "5c004500460049005c0042004f004f0054005c0042004f004f0054005800360034002e00450046004900" + "0000",
	"7fff0400",
}, "")

func TestLoadOptionIsWhatFirmwareReads(t *testing.T) {
	if got := hex.EncodeToString(option.Encode()); got != encoded {
		t.Errorf("Encode =\n%s\nwant\n%s", got, encoded)
	}
	if text, err := description(option.Encode()); err != nil || text != "provision" {
		t.Errorf("description = %q, %v", text, err)
	}
}

// firmware has variables in a folder.
func firmware(t *testing.T, vars map[string]string) Vars {
	t.Helper()
	dir := t.TempDir()
	for name, value := range vars {
		raw, err := hex.DecodeString("07000000" + value)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+globalVariable), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Vars{dir}
}

func TestOurEntryComesFirstAndTheOthersStay(t *testing.T) {
	const net = "01000000" + "0400" + "4e00650074000000" + "7fff0400"
	tests := map[string]struct {
		vars        map[string]string
		name, order string
	}{
		"firmware without entries":          {nil, "Boot0000", "0000"},
		"network entries stay behind ours":  {map[string]string{"Boot0000": net, "Boot0001": net, "BootOrder": "01000000"}, "Boot0002", "020001000000"},
		"our old entry is used again":       {map[string]string{"Boot0000": net, "Boot0003": encoded, "BootOrder": "00000300"}, "Boot0003", "03000000"},
		"an entry that is broken is spared": {map[string]string{"Boot0000": "01", "BootOrder": "0000"}, "Boot0001", "01000000"},
		"what looks like an entry is none":  {map[string]string{"BootNext": "0000", "BootOrder": "0500"}, "Boot0000", "00000500"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := firmware(t, tt.vars)
			entry, err := v.BootFirst(option)
			if err != nil || entry != tt.name {
				t.Fatalf("BootFirst = %s, %v, want %s", entry, err, tt.name)
			}
			for name, want := range map[string]string{entry: encoded, "BootOrder": tt.order} {
				got, err := v.read(name)
				if err != nil || hex.EncodeToString(got) != want {
					t.Errorf("%s = %x (%v), want %s", name, got, err, want)
				}
			}
		})
	}
}

func FuzzDescription(f *testing.F) {
	f.Add(option.Encode())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := description(b); err == nil && len(text) > 2*len(b) {
			t.Errorf("%d bytes out of %d", len(text), len(b))
		}
	})
}
