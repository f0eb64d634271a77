// Package inventory finds out what this machine is: board and firmware,
// processors, memory, disks, network cards with their neighbours, BMC, TPM.
//
// It reads what the kernel shows and asks the BMC through its local
// interface. Whatever does not answer is left empty: a machine with a broken
// part still says hello.
package inventory

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/api"
)

// A Machine is where the kernel shows the hardware. Its zero value is this
// machine; tests have their own.
type Machine struct {
	Root string // before /sys, /proc and /dev
	LLDP *Neighbours
	BMC  func() api.InventoryBMC // nil: ask /dev/ipmi0
}

// Read returns the inventory and the SMBIOS UUID in RFC 9562 form, or "" when
// the firmware has none.
func (m Machine) Read(ctx context.Context) (api.Inventory, string) {
	inv := api.Inventory{Arch: runtime.GOARCH}
	var wait sync.WaitGroup
	wait.Go(func() { inv.BMC = m.bmc(ctx) }) // the slow one: some BMCs think for a while
	inv.Vendor, inv.Product = m.dmi("sys_vendor"), m.dmi("product_name")
	inv.Serial, inv.AssetTag = m.dmi("product_serial"), m.dmi("chassis_asset_tag")
	inv.BIOS = m.dmi("bios_version")
	inv.Firmware, inv.Secure = m.firmware()
	inv.CPU = parseCPU(m.text("/proc/cpuinfo"))
	inv.MemoryMiB = parseMemory(m.text("/proc/meminfo"))
	inv.Disks = m.disks()
	inv.NICs = m.nics()
	inv.TPM = m.tpm()
	wait.Wait()
	return inv, m.UUID()
}

func (m Machine) text(name string) string {
	b, err := os.ReadFile(m.Root + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(b), "\x00"))
}

func (m Machine) number(name string) int {
	n, err := strconv.Atoi(m.text(name))
	if err != nil {
		return 0
	}
	return n
}

func (m Machine) disks() []api.Disk {
	found, err := disk.System{Root: m.Root}.List()
	if err != nil {
		return nil
	}
	out := make([]api.Disk, 0, len(found))
	for _, d := range found {
		d.Holds = disk.DeviceHolds(d.Path, d.Bytes)
		out = append(out, d.Disk)
	}
	return out
}

// tpm returns "1.2", "2.0", or "" when there is none.
func (m Machine) tpm() string {
	const dir = "/sys/class/tpm/tpm0"
	if _, err := os.Stat(m.Root + dir); err != nil {
		return ""
	}
	if m.text(dir+"/tpm_version_major") == "2" {
		return "2.0"
	}
	return "1.2"
}

// firmware returns "uefi" or "bios", and whether Secure Boot is on.
func (m Machine) firmware() (kind string, secure bool) {
	if _, err := os.Stat(m.Root + "/sys/firmware/efi"); err != nil {
		return "bios", false
	}
	found, _ := filepath.Glob(m.Root + "/sys/firmware/efi/efivars/SecureBoot-*")
	for _, name := range found {
		// Four bytes of attributes, then the value.
		if b, err := os.ReadFile(name); err == nil && len(b) == 5 && b[4] == 1 {
			return "uefi", true
		}
	}
	return "uefi", false
}
