package fleet

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// A BMCDriver is a way to switch a machine.
type BMCDriver string

// The drivers.
const (
	DriverIPMI       BMCDriver = "ipmi"       // IPMI 2.0 over LAN
	DriverIPMITool   BMCDriver = "ipmitool"   // the same by the program ipmitool
	DriverRedfish    BMCDriver = "redfish"    // any Redfish service
	DriverDell       BMCDriver = "dell"       // iDRAC
	DriverSupermicro BMCDriver = "supermicro" // X11 to X13
	DriverOpenBMC    BMCDriver = "openbmc"
	DriverASRockRack BMCDriver = "asrockrack"
	DriverAMT        BMCDriver = "amt"    // Intel AMT
	DriverPDU        BMCDriver = "pdu"    // the outlets that the machine is plugged into
	DriverWOL        BMCDriver = "wol"    // Wake-on-LAN; a person switches off
	DriverManual     BMCDriver = "manual" // a person switches
)

// BMCDrivers returns all drivers, those that a probe may choose first.
func BMCDrivers() []BMCDriver {
	return []BMCDriver{
		DriverRedfish, DriverIPMI, DriverIPMITool, DriverDell, DriverSupermicro, DriverOpenBMC, DriverASRockRack, DriverAMT,
		DriverPDU, DriverWOL, DriverManual,
	}
}

// SignsIn reports whether the driver needs an account.
func (d BMCDriver) SignsIn() bool { return d != DriverWOL && d != DriverManual }

// SetsBoot reports whether the driver can say what a machine boots next.
// Where it cannot, the firmware's own order has to begin with the network.
func (d BMCDriver) SetsBoot() bool {
	return d != DriverWOL && d != DriverManual && d != DriverPDU
}

// HasAccounts reports whether the driver can change the password that it signs
// in with.
func (d BMCDriver) HasAccounts() bool {
	return d == "" || d.Web() || d == DriverIPMI || d == DriverIPMITool
}

// Web reports whether the driver speaks HTTPS, whose certificate is pinned.
func (d BMCDriver) Web() bool {
	return slices.Contains([]BMCDriver{DriverRedfish, DriverDell, DriverSupermicro, DriverOpenBMC, DriverASRockRack}, d)
}

// ShowsMedia reports whether the driver can have the BMC show an image as a CD.
func (d BMCDriver) ShowsMedia() bool { return d.Web() }

// A BMC is how a node's power is reached: by its baseboard controller, mostly.
type BMC struct {
	Wanted  BMCDriver // what the site says; "" lets a probe choose
	Driver  BMCDriver // in use; "" until a probe has chosen one
	Address string    // host or host:port; "" when the node has none. Of the PDU, for DriverPDU
	Ports   BMCPorts

	Username       string
	SealedPassword string // sealed by access; never in clear in here

	CipherSuite int    // IPMI cipher suite found at enrolment; below 1 when unknown
	System      string // Redfish: path of the system that is this node
	BasicAuth   bool   // Redfish: sign in with each request, without a session
	Pin         string // hex SHA-256 of the TLS certificate that it has; "" when none was seen
	HostKey     string // SSH: fingerprint of its key, of the first time that it was seen
	NewPin      string // of another one that it shows now, which nobody has accepted yet

	Outlets PDUOutlets
	Boot    BootMethod
	Model   BMCModel  // as it says itself; zero until a check has asked
	Quirks  BMCQuirks // of the site's profile for that model

	Own      bool       // we made its password: rules do not replace it
	Factory  string     // user that it came with, whose password is still to be changed; "" for none
	Next     BMCAccount // an account that it may have got from us, and that is not proven yet; zero for none
	Findings []Finding  // what somebody should see to
}

// A BootMethod is how runs have a machine boot what we give it.
type BootMethod string

// The boot methods.
const (
	BootPXE  BootMethod = ""     // the network, however its firmware does that
	BootHTTP BootMethod = "http" // UEFI HTTP boot, from a URL that its BMC is given

	// BootMedia is not by the network: its BMC shows it a CD image of ours.
	BootMedia BootMethod = "media"
)

// BMCPorts are the ports of a BMC that are not the usual ones.
type BMCPorts struct {
	IPMI  int // 0: the port in the address, or 623
	HTTPS int // 0: the port in the address, or 443
}

// A ConsoleVia is a way to a machine's serial console.
type ConsoleVia string

// The ways.
const (
	ConsoleIPMI ConsoleVia = "ipmi" // serial over LAN
	ConsoleSSH  ConsoleVia = "ssh"
)

// PDUOutlets say where a machine is plugged into a PDU.
type PDUOutlets struct {
	Model   string // a row of the drivers' table: "apc", "raritan"
	Outlets []int  // counted from 1; a machine with two supplies has two
}

// Via returns the driver in use, also for what was stored before there was a
// choice. It is "" when nobody has looked yet.
func (b BMC) Via() BMCDriver {
	switch {
	case b.Driver != "":
		return b.Driver
	case b.Wanted != "":
		return b.Wanted
	case b.CipherSuite > 0:
		return DriverIPMI
	}
	return ""
}

// Learned returns the BMC with what a probe has found out about it. The account
// may be another by now.
func (b BMC) Learned(found BMC) BMC {
	b.Driver, b.CipherSuite, b.System, b.BasicAuth = found.Driver, found.CipherSuite, found.System, found.BasicAuth
	b.Pin, b.NewPin = found.Pin, found.NewPin
	return b
}

// IP returns the BMC's address where it is no name.
func (b BMC) IP() (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(b.Address); err == nil {
		return at.Addr().Unmap(), true
	}
	a, err := netip.ParseAddr(strings.Trim(b.Address, "[]"))
	return a.Unmap(), err == nil
}

// Usable reports whether there is a way to switch the node.
func (b BMC) Usable() bool { return b.Address != "" || b.Via() != "" && !b.Via().SignsIn() }

// BMCAccess is how to reach the BMCs of the machines that a rule matches. The
// password itself stays in its file, sealed once it is read. Without one, an
// account with a password of ours is made on each BMC, by the agent on the
// machine.
type BMCAccess struct {
	Keep           bool      // no account is ever made or changed there
	Driver         BMCDriver // "" lets a probe choose
	Address        string    // "" is what the machine says
	Ports          BMCPorts
	CipherSuite    int    // 0 lets a probe choose
	System         string // Redfish: path of the machine's system; "" lets a probe choose
	Username       string // without a password: of the account that is made; "": [OwnUser]
	PasswordFile   string
	SealedPassword string    // filled in by whoever read the file
	CA             Authority // in the place of the site's, zero for those
	Outlets        PDUOutlets
	Boot           BootMethod
}

// An Authority has signed the TLS certificates of BMCs: a file with
// certificates in PEM, and what is in it.
type Authority struct {
	File string
	PEM  string // filled in by whoever read the file
}

// Authorities returns whose signature on the TLS certificate of a node's BMC is
// enough: those of its rule, or else of the site.
func (s Site) Authorities(n Node) []Authority {
	if r, ok := s.MatchRule(n); ok && r.BMC.CA.File != "" {
		return []Authority{r.BMC.CA}
	}
	return s.BMCCA
}

// Usable reports whether the rule says enough to switch a machine.
func (a BMCAccess) Usable() bool {
	return a.Username != "" && !a.MakesAccount() || a.Driver == DriverPDU || a.Driver != "" && !a.Driver.SignsIn()
}

// Under returns the BMC as a rule has it, whose machine says that its BMC is
// at an address. One that moves stays the same BMC: whoever is at the new
// address has to show its certificate and its host key, or is refused. What was
// found out by another driver is forgotten. A machine that says nothing of its
// BMC changes nothing.
func (b BMC) Under(a BMCAccess, said string) BMC {
	addr := cmp.Or(a.Address, said, b.Address)
	if a.Driver != "" && !a.Driver.SignsIn() {
		addr = ""
	}
	if a.Driver == "" && addr == "" {
		return b
	}
	if b.Address == "" || addr == "" || b.Wanted != a.Driver {
		b = BMC{CipherSuite: -1, Quirks: b.Quirks, Pin: b.Pin, HostKey: b.HostKey}
	}
	if a.CipherSuite > 0 {
		b.CipherSuite = a.CipherSuite
	}
	b.System = cmp.Or(a.System, b.System)
	b.Address, b.Wanted, b.Ports, b.Outlets, b.Boot = addr, a.Driver, a.Ports, a.Outlets, a.Boot
	b.Username, b.SealedPassword = a.Username, a.SealedPassword
	return b
}
