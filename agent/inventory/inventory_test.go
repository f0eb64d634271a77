package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kernel writes files as the kernel shows them; a name that ends in "@" is a
// link.
func kernel(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		target := filepath.Join(root, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "@") {
			err = os.Symlink(text, target)
		} else {
			err = os.WriteFile(target, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestMachineIsDescribed(t *testing.T) {
	root := kernel(t, map[string]string{
		"sys/class/dmi/id/sys_vendor":                                              "Dell Inc.\n",
		"sys/class/dmi/id/product_name":                                            "PowerEdge R640\n",
		"sys/class/dmi/id/product_serial":                                          "To Be Filled By O.E.M.\n",
		"sys/class/dmi/id/chassis_asset_tag":                                       "A-0042\n",
		"sys/class/dmi/id/bios_version":                                            "2.19.1\n",
		"sys/class/dmi/id/product_uuid":                                            "4C4C4544-0042-3510-8051-B4C04F4A3132\n",
		"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01",
		"proc/cpuinfo": "processor\t: 0\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\n\n" +
			"processor\t: 1\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\n\n" +
			"processor\t: 2\nmodel name\t: Xeon\nphysical id\t: 1\ncore id\t\t: 0\n\n",
		"proc/meminfo":                         "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
		"sys/block/vda/size":                   "2048\n",
		"sys/block/vda/serial":                 "D1\n",
		"dev/vda":                              "XFSB",
		"sys/class/net/lo/address":             "00:00:00:00:00:00\n",
		"sys/class/net/eth0/address":           "52:54:00:AA:00:01\n",
		"sys/class/net/eth0/carrier":           "1\n",
		"sys/class/net/eth0/speed":             "10000\n",
		"sys/class/net/eth0/device/driver@":    "../../../bus/pci/drivers/ixgbe",
		"sys/class/net/eth1/address":           "52:54:00:aa:00:02\n",
		"sys/class/net/eth1/speed":             "-1\n",
		"sys/class/net/eth1/device/vendor":     "0x8086\n",
		"sys/class/tpm/tpm0/tpm_version_major": "2\n",
	})
	heard := NewNeighbours()
	heard.keep("eth0", api.LLDP{Chassis: "c", Port: "p", System: "s"})
	inv, uuid := Machine{Root: root, LLDP: heard, BMC: func() api.InventoryBMC {
		return api.InventoryBMC{Present: true, Address: "10.77.1.11", MAC: "52:54:00:bb:00:01"}
	}}.Read(t.Context())
	inv.Arch = ""
	want := api.Inventory{
		Vendor: "Dell Inc.", Product: "PowerEdge R640", AssetTag: "A-0042", Firmware: "uefi", BIOS: "2.19.1", Secure: true,
		CPU: api.CPU{Model: "Xeon", Sockets: 2, Cores: 2, Threads: 3}, MemoryMiB: 16000,
		Disks: []api.Disk{{ID: "virtio-D1", Name: "vda", Serial: "D1", Bytes: 1 << 20, Holds: "xfs"}},
		NICs: []api.NIC{
			{Name: "eth0", MAC: "52:54:00:aa:00:01", Driver: "ixgbe", Up: true, Speed: 10000, LLDP: api.LLDP{Chassis: "c", Port: "p", System: "s"}},
			{Name: "eth1", MAC: "52:54:00:aa:00:02"},
		},
		BMC: api.InventoryBMC{Present: true, Address: "10.77.1.11", MAC: "52:54:00:bb:00:01"}, TPM: "2.0",
	}
	if diff := cmp.Diff(want, inv); diff != "" {
		t.Errorf("Read differs (-want +got):\n%s", diff)
	}
	if uuid != "4c4c4544-0042-3510-8051-b4c04f4a3132" {
		t.Errorf("UUID = %q", uuid)
	}
}

func TestMachineThatSaysNothingIsDescribedToo(t *testing.T) {
	inv, uuid := Machine{Root: t.TempDir()}.Read(t.Context())
	if inv.Firmware != "bios" || inv.BMC.Present || inv.TPM != "" || len(inv.Disks)+len(inv.NICs) != 0 || uuid != "" {
		t.Errorf("Read = %+v, %q", inv, uuid)
	}
}

// table is an SMBIOS table with a structure of type 0 before that of type 1.
func table(uuid string) []byte {
	b := append([]byte{0, 24, 0, 0}, make([]byte, 20)...)
	b = append(b, "SeaBIOS\x00rel\x00\x00"...)
	b = append(b, 1, 27, 0, 1, 1, 2, 3, 4)
	b = append(b, uuid...)
	b = append(b, 6, 0, 0)
	b = append(b, "Lab\x00\x00"...)
	return append(b, 127, 4, 0, 0, 0, 0)
}

func TestUUIDIsInTheUsualOrder(t *testing.T) {
	tests := map[string]struct{ raw, want string }{
		"little-endian fields are turned around": {"\x7b\xb4\x07\x97\x22\x11\x44\x33\x80\x01\x02\x03\x04\x05\x06\x07", "9707b47b-1122-3344-8001-020304050607"},
		"zeros are none":                         {strings.Repeat("\x00", 16), ""},
		"ones are none":                          {strings.Repeat("\xff", 16), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := uuidFromTable(table(tt.raw)); got != tt.want {
				t.Errorf("uuidFromTable = %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzUUIDFromTable(f *testing.F) {
	f.Add(table("0123456789abcdef"))
	f.Add([]byte{1, 4, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := uuidFromTable(b); got != "" && len(got) != 36 {
			t.Errorf("uuidFromTable = %q", got)
		}
	})
}

func TestProcessorsWithoutTopologyAreCores(t *testing.T) {
	got := parseCPU("processor : 0\nBogoMIPS : 48\n\nprocessor : 1\n\nHardware : x\n")
	if want := (api.CPU{Sockets: 1, Cores: 2, Threads: 2}); got != want {
		t.Errorf("parseCPU = %+v, want %+v", got, want)
	}
	if got := parseCPU(""); got != (api.CPU{}) {
		t.Errorf("parseCPU of nothing = %+v", got)
	}
}
