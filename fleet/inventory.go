package fleet

import "net/netip"

// An Inventory is what the agent found in a machine. Every string in it was
// said by the machine and cleaned by [CleanText]: it is hostile input to
// templates, shells, HTML and SQL alike.
type Inventory struct {
	Vendor    string
	Product   string
	Serial    string
	AssetTag  string
	Firmware  string // "bios" or "uefi"
	BIOS      string // firmware version
	Secure    bool   // Secure Boot is on
	CPU       CPU
	MemoryMiB int
	Disks     []Disk
	NICs      []NIC
	BMC       InventoryBMC
	TPM       string // "", "1.2" or "2.0"
	Arch      string // "amd64", "arm64"
}

// A CPU is the processors of a machine, taken together.
type CPU struct {
	Model   string
	Sockets int
	Cores   int
	Threads int
}

// A Disk is one whole block device.
type Disk struct {
	ID         string // stable: "wwn-…", "nvme-…", "virtio-SERIAL", else "path-…"
	Name       string // kernel name, "vda"; changes from boot to boot
	Model      string
	Serial     string
	Bytes      int64
	Rotational bool
	Removable  bool
	ReadOnly   bool
	Holds      string // signature found on it, "gpt", "ext4", …; "" when blank
}

// A NIC is one network card.
type NIC struct {
	Name   string
	MAC    MAC
	Driver string
	Up     bool
	Speed  int // Mbit/s; 0 when unknown
	LLDP   LLDP
}

// LLDP is the neighbour that a card heard (IEEE 802.1AB).
type LLDP struct {
	Chassis string
	Port    string
	System  string
}

// An InventoryBMC is what the machine says about its own BMC.
type InventoryBMC struct {
	Present bool
	Address string // LAN address; "" when not configured
	MAC     MAC
}

// Clean returns the inventory with every string cleaned and every list
// bounded: what a machine sends is never kept as it came.
func (inv Inventory) Clean() Inventory {
	for _, s := range []*string{
		&inv.Vendor, &inv.Product, &inv.Serial, &inv.AssetTag, &inv.Firmware, &inv.BIOS,
		&inv.CPU.Model, &inv.TPM, &inv.Arch,
	} {
		*s = CleanText(*s)
	}
	inv.BMC.MAC, inv.BMC.Address = cleanMAC(inv.BMC.MAC), cleanAddress(inv.BMC.Address)
	inv.Disks = append([]Disk(nil), inv.Disks[:min(len(inv.Disks), 512)]...)
	for i := range inv.Disks {
		d := &inv.Disks[i]
		for _, s := range []*string{&d.ID, &d.Name, &d.Model, &d.Serial, &d.Holds} {
			*s = CleanText(*s)
		}
	}
	inv.NICs = append([]NIC(nil), inv.NICs[:min(len(inv.NICs), 128)]...)
	for i := range inv.NICs {
		n := &inv.NICs[i]
		n.MAC = cleanMAC(n.MAC)
		for _, s := range []*string{&n.Name, &n.Driver, &n.LLDP.Chassis, &n.LLDP.Port, &n.LLDP.System} {
			*s = CleanText(*s)
		}
	}
	return inv
}

// cleanAddress returns the address of one host on a network, without a port or a
// name: what is there is signed in to.
func cleanAddress(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ""
	}
	return a.Unmap().String()
}

func cleanMAC(m MAC) MAC {
	clean, err := ParseMAC(string(m))
	if err != nil {
		return ""
	}
	return clean
}
