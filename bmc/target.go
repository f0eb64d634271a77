package bmc

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Password is one that shows itself to nobody who prints, logs or encodes it.
type Password string

const hidden = "[hidden]"

// String hides the password from fmt.
func (Password) String() string { return hidden }

// GoString hides the password from %#v.
func (Password) GoString() string { return hidden }

// Format hides the password from every other verb, such as %x.
func (Password) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(hidden)) }

// LogValue hides the password from slog.
func (Password) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the password from JSON.
func (Password) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// MarshalText hides the password from all other encodings.
func (Password) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// A Target is one BMC, and how to sign in to it.
type Target struct {
	Node     string          // what people call the machine; the address when empty
	Driver   fleet.BMCDriver // IPMI when empty; of no matter to [Controller.Probe] then
	Address  string          // host, or host:port
	Ports    fleet.BMCPorts
	Username string
	Password Password
	Timeout  time.Duration // for one conversation; the controller's when zero
	Quirks   fleet.BMCQuirks

	CipherSuite int    // IPMI: the one that [Controller.Probe] found; below 1: not known yet
	System      string // Redfish: path of the system; "" when there is one only
	BasicAuth   bool   // Redfish: sign in with each request
	Pin         string // hex SHA-256 of the TLS certificate; nothing but a probe goes without

	Trust *Trust `json:"-"` // whose signature on a TLS certificate is enough besides; nil: nobody's

	HostKey string // SSH: fingerprint of the key that it showed before; "" takes any

	UUID, Serial string // of the machine: tell its system from others behind the same BMC
	Outlets      fleet.PDUOutlets
	Wake         Wake

	next, token Password // what must not be seen besides: the password that its user is being given, and that of a session

	leisure time.Duration // a conversation that may last so long, and gives way to others
	shell   bool          // by SSH, which may have users of its own
	insist  bool          // also where the breaker would leave the BMC alone
}

// A Wake is where magic packets go.
type Wake struct {
	MACs []string
	To   []netip.AddrPort // broadcast addresses of the machine's subnet
}

const (
	ipmiPort  = fleet.BMCPortIPMI
	httpsPort = fleet.BMCPortHTTPS
)

func (t Target) hostPort() (string, int, error) {
	host, port, err := t.at(t.Ports.IPMI, ipmiPort)
	if err != nil {
		return "", 0, err
	}
	return host, port, t.check()
}

// valid finds what no BMC need be asked about.
func (t Target) valid() error {
	switch {
	case !t.Driver.SignsIn():
		return nil
	case t.Driver == fleet.DriverPDU:
		_, _, err := t.at(0, snmpPort)
		return err
	case t.Driver == "", t.Driver == fleet.DriverIPMI, t.Driver == fleet.DriverIPMITool:
		_, _, err := t.hostPort()
		return err
	}
	_, _, err := t.at(t.Ports.HTTPS, httpsPort)
	return err
}

// at returns host and port of a service: its own port, or else that of the
// address, or else the usual one.
func (t Target) at(own, usual int) (string, int, error) {
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		host, port = strings.Trim(t.Address, "[]"), strconv.Itoa(usual)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if host == "" {
		return "", 0, fmt.Errorf("it has no address")
	}
	if own > 0 {
		return host, own, nil
	}
	return host, int(n), nil
}

// The longest name and password that IPMI 2.0 can carry.
const (
	maxUsername = 16
	maxPassword = 20
)

func (t Target) check() error {
	switch {
	case len(t.Username) > maxUsername:
		return fmt.Errorf("the user name is longer than %d bytes", maxUsername)
	case len(t.Password) > maxPassword:
		return fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	return nil
}

// key says which BMC it is: conversations with the same one are never held at
// the same time.
func (t Target) key() string {
	if t.Address == "" { // Wake-on-LAN, a person
		return "machine " + t.Node
	}
	return fleet.BMC{Address: t.Address, Ports: t.Ports}.Place()
}

// changeKey says what is changed one at a time: a BMC, or one of the machines that
// it has, or the outlets of one at a PDU. Others need not wait until it is on.
func (t Target) changeKey() string {
	switch {
	case t.Driver == fleet.DriverPDU:
		return t.key() + fmt.Sprint(" outlets ", t.Outlets.Outlets)
	case t.Driver.Web() && t.System != "":
		return t.key() + " system " + path.Base(t.System)
	}
	return t.key()
}

// suite is the only cipher suite to try; below 1 when any may be.
func (t Target) suite() int {
	if t.Quirks.CipherSuite > 0 {
		return t.Quirks.CipherSuite
	}
	return t.CipherSuite
}

func (t Target) name() string {
	if t.Node != "" {
		return t.Node
	}
	return t.Address
}
