package main

import (
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
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

// For a script the server needs to know which address of its own a machine
// reaches, for which it may have to ask the kernel. A loader is the same for
// all.
func TestALoaderIsServedWithoutLookingForTheWayToTheMachine(t *testing.T) {
	conf := defaultConfig()
	conf.StateDir = t.TempDir()
	st, err := openStation(t.Context(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.store.Close() })
	if _, err := st.httpServer(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf.StateDir, "boot", "snponly.efi"), []byte("loader"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := netip.AddrPortFrom(netip.MustParseAddr("fe80::1"), 2000) // of no interface
	if _, _, err := st.tree.open(t.Context(), "grub/grub.cfg", nowhere); err == nil {
		t.Error("there is a way to an address of no interface")
	}
	f, size, err := st.tree.open(t.Context(), "boot/snponly.efi", nowhere)
	if err != nil {
		t.Fatalf("a loader: %v", err)
	}
	defer f.Close()
	if size != int64(len("loader")) {
		t.Errorf("the loader has %d bytes", size)
	}
}

func TestOnlyMachinesThatMayBootAreHeardByTFTP(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	site := fleet.Site{Subnets: []fleet.Subnet{
		{Name: "full", CIDR: prefix("10.1.0.0/24"), Mode: fleet.Full, Reservations: []fleet.Reservation{{Addr: addr("10.1.0.9")}, {Hostname: "any"}}},
		{Name: "reserved", CIDR: prefix("10.2.0.0/24"), Mode: fleet.Reserved},
		{Name: "proxy", CIDR: prefix("10.3.0.0/24"), Mode: fleet.Proxy},
		{Name: "observe", CIDR: prefix("10.4.0.0/24")},
		{Name: "beside", CIDR: prefix("10.5.0.0/24"), Mode: fleet.Full, KnownDHCP: []netip.Addr{addr("10.5.0.2")}},
		{Name: "six", CIDR: prefix("fd77::/64"), Mode: fleet.Full},
		{Name: "slaac", CIDR: prefix("fd78::/64"), Mode: fleet.Full, SLAAC: true},
	}}
	leased := map[netip.Addr]bool{addr("10.1.0.7"): true, addr("10.2.0.7"): true, addr("fd77::7"): true, addr("192.0.2.7"): true}
	tests := map[string]struct {
		client string
		want   bool
	}{
		"with a lease":                            {"10.1.0.7", true},
		"without one":                             {"10.1.0.8", false},
		"with a reserved address":                 {"10.1.0.9", true},
		"of known nodes only, with a lease":       {"10.2.0.7", true},
		"of known nodes only, without":            {"10.2.0.8", false},
		"another server gives the addresses":      {"10.3.0.8", true},
		"nobody is answered but by TFTP":          {"10.4.0.8", true},
		"another server gives addresses too":      {"10.5.0.8", true},
		"of no subnet":                            {"198.51.100.1", false},
		"of a subnet that was taken out":          {"192.0.2.7", false},
		"IPv6, with a lease":                      {"fd77::7", true},
		"IPv6, without":                           {"fd77::8", false},
		"IPv6, of its own making":                 {"fd78::1234", true},
		"IPv6, on the link":                       {"fe80::1", true},
		"IPv4 on the link, which nobody boots by": {"169.254.0.7", false},
		"IPv6, of no subnet":                      {"2001:db8::1", false},
	}
	for name, tt := range tests {
		if got := mayBoot(site, addr(tt.client), func(a netip.Addr) bool { return leased[a] }); got != tt.want {
			t.Errorf("%s: %s may boot: %t, want %t", name, tt.client, got, tt.want)
		}
	}
}
