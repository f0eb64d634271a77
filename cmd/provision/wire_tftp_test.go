package main

import (
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTFTPServesLoadersScriptsAndRaspberryPis(t *testing.T) {
	conf := defaultConfig()
	conf.StateDir, conf.Advertise.Address = t.TempDir(), "10.77.0.1"
	for name, text := range map[string]string{
		"snponly.efi": "loader", "grubx64.efi": "grub", "vmlinuz": "kernel",
		"rpi/start4.elf": "of all", "rpi/config.txt": "config", "rpi/9ffefdef/start4.elf": "of one", "rpi/overlays/a.dtbo": "overlay",
	} {
		file := filepath.Join(conf.StateDir, "boot", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, err := openStation(t.Context(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.store.Close() })
	if _, err := st.httpServer(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{ // name asked for: what the answer begins with; "" for none
		"snponly.efi": "loader", "boot/snponly.efi": "loader", "EFI//grubx64.efi": "grub", "boot/vmlinuz": "kernel",
		"grub/grub.cfg":                        "# GRUB, started by shim",
		"debian-installer/amd64/grub/grub.cfg": "# GRUB, started by shim",
		"grub/x86_64-efi/command.lst":          "",
		"start4.elf":                           "of all",
		"9ffefdef/start4.elf":                  "of one",
		"9ffefdef/config.txt":                  "", // so the Raspberry Pi asks for:
		"config.txt":                           "config",
		"overlays/a.dtbo":                      "overlay",
		"9ffefdef/vmlinuz":                     "", // of another kind of machine
		"../provision.db":                      "",
		"nothing":                              "",
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			f, size, err := st.tree.open(t.Context(), name, netip.MustParseAddrPort("10.77.0.50:2000"))
			if err != nil {
				if want != "" {
					t.Errorf("open = %v, want %q", err, want)
				}
				return
			}
			defer f.Close()
			got, err := io.ReadAll(f)
			if err != nil || want == "" || !strings.HasPrefix(string(got), want) || int64(len(got)) != size {
				t.Errorf("open = %q of %d bytes, %v; want %q", got, size, err, want)
			}
		})
	}
}
