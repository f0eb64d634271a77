package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
)

// A Machine is one bare machine of a rack. Everything that inventory will
// find is given here, so that a test can compare it exactly.
type Machine struct {
	Name       string   `json:"name"` // also the name of its directory
	Firmware   Firmware `json:"firmware"`
	MAC        string   `json:"mac"`
	UUID       string   `json:"uuid"`
	Serial     string   `json:"serial"`
	AssetTag   string   `json:"asset_tag"`
	Vendor     string   `json:"vendor"`
	Product    string   `json:"product"`
	MemoryMiB  int      `json:"memory_mib"`
	CPUs       int      `json:"cpus"`
	DiskMiB    int      `json:"disk_mib"`
	DiskSerial string   `json:"disk_serial"` // QEMU shows the first 20 bytes
	NIC        string   `json:"nic"`         // a QEMU device model: "virtio-net-pci", "e1000"
	SpareNIC   bool     `json:"spare_nic"`   // before it, another card of that model, with nobody at the other end
	BootCA     string   `json:"boot_ca"`     // file with an EFI signature list: whom HTTPS boot trusts; "" for none
	IPv6       bool     `json:"ipv6"`        // UEFI does no PXE over IPv4; HTTP over IPv4 it tries first all the same
	NoROM      bool     `json:"no_rom"`      // the card has no ROM, so that a BIOS boots nothing from the network; a UEFI has no driver for an e1000 anyway
	Remote     bool     `json:"remote"`      // on a network of its own, behind the rack's edge
	BMC        BMC      `json:"bmc"`
}

// A BMC is the address and the account of a machine's baseboard controller.
// IPMI is on port 623 and knows cipher suites 0 to 3 only, Redfish is on port
// 443. Where one speaks both, accounts that are made by IPMI hold for Redfish;
// what Redfish changes, IPMI does not learn.
type BMC struct {
	Speaks   Protocol   `json:"speaks"`  // IPMI when empty
	Address  netip.Addr `json:"address"` // 10.77.1.11 for the first machine, when empty
	Username string     `json:"username"`
	Password string     `json:"password"` // at most 16 bytes; random when empty
}

// A Protocol is what a BMC speaks.
type Protocol string

// What a BMC can speak.
const (
	IPMI    Protocol = "ipmi"
	Redfish Protocol = "redfish"
	Both    Protocol = "both"
)

func (b BMC) ipmi() bool    { return b.Speaks != Redfish }
func (b BMC) redfish() bool { return b.Speaks == Redfish || b.Speaks == Both }

// String leaves out the password.
func (b BMC) String() string { return b.Username + "@" + b.Address.String() }

// DefaultRack returns n machines: the first with SeaBIOS, the others with
// OVMF, each with enough memory and disk for a node of a swarm. The BMC of
// each third one speaks Redfish too.
func DefaultRack(n int) []Machine {
	ms := make([]Machine, n)
	for i := range ms {
		ms[i] = Machine{Name: fmt.Sprintf("n%d", i+1)}.withDefaults(i)
		if i%3 == 2 {
			ms[i].BMC.Speaks = Both
		}
	}
	return ms
}

// withDefaults fills what is not set of the i-th machine of a rack.
func (m Machine) withDefaults(i int) Machine {
	nr := i + 1
	m.Name = or(m.Name, fmt.Sprintf("n%d", nr))
	fw := UEFI
	if i == 0 {
		fw = BIOS
	}
	m.Firmware = or(m.Firmware, fw)
	m.MAC = or(m.MAC, fmt.Sprintf("52:54:00:77:00:%02x", nr))
	m.UUID = or(m.UUID, fmt.Sprintf("7ab00077-0000-4000-8000-5254007700%02x", nr))
	m.Serial = or(m.Serial, fmt.Sprintf("LAB77%04d", nr))
	m.AssetTag = or(m.AssetTag, fmt.Sprintf("RACK0-U%02d", nr))
	m.Vendor = or(m.Vendor, "Rackstage")
	m.Product = or(m.Product, "Virtual 1U")
	m.MemoryMiB = or(m.MemoryMiB, 1024)
	m.CPUs = or(m.CPUs, 2)
	m.DiskMiB = or(m.DiskMiB, 8192)
	m.DiskSerial = or(m.DiskSerial, fmt.Sprintf("DISK77%04d", nr))
	m.NIC = or(m.NIC, "virtio-net-pci")
	m.BMC.Speaks = or(m.BMC.Speaks, IPMI)
	m.BMC.Username = or(m.BMC.Username, "admin")
	if !m.BMC.Address.IsValid() {
		m.BMC.Address = netip.AddrFrom4([4]byte{10, 77, 1, byte(10 + nr)})
	}
	return m
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

var (
	nameShape = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	uuidShape = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	nicShape  = regexp.MustCompile(`^[a-z0-9-]+$`)
	userShape = regexp.MustCompile(`^[!#-&(-\[\]-~]{1,16}$`) // printable, no space, quotes or backslash
	textShape = regexp.MustCompile(`^[ -~]{0,64}$`)
)

// check refuses what would end up, unquoted, in a configuration file or on a
// command line, and what the simulator cannot do.
func (m Machine) check() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, macErr := net.ParseMAC(m.MAC)
	refuse(!nameShape.MatchString(m.Name), "name %q: want lower-case letters, digits and dashes", m.Name)
	_, known := kits[m.Firmware]
	refuse(!known, "firmware %q: want one of %s", m.Firmware, firmwareNames())
	refuse(macErr != nil, "MAC %q: %v", m.MAC, macErr)
	refuse(!uuidShape.MatchString(m.UUID), "UUID %q is not one", m.UUID)
	refuse(!nicShape.MatchString(m.NIC), "network card %q is not a QEMU device", m.NIC)
	for _, s := range []string{m.Serial, m.AssetTag, m.Vendor, m.Product, m.DiskSerial} {
		refuse(!textShape.MatchString(s), "text %q: want at most 64 printable ASCII characters", s)
	}
	refuse(m.MemoryMiB < 64 || m.CPUs < 1 || m.DiskMiB < 1, "memory, CPUs and disk must be at least 64 MiB, 1 and 1 MiB")
	refuse(!slices.Contains([]Protocol{IPMI, Redfish, Both}, m.BMC.Speaks), "protocol %q of the BMC: want ipmi, redfish or both", m.BMC.Speaks)
	refuse(!bmcNet.Contains(m.BMC.Address), "BMC address %s is not in %s", m.BMC.Address, bmcNet)
	refuse(!userShape.MatchString(m.BMC.Username), "BMC user name %q: want 1 to 16 plain characters", m.BMC.Username)
	refuse(!userShape.MatchString(m.BMC.Password), "the BMC password must be 1 to 16 plain characters")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	return nil
}
