package bmc

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"
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
	Node        string // what people call the machine; the address when empty
	Address     string // host, or host:port
	Username    string
	Password    Password
	CipherSuite int           // the one that [Controller.Probe] found; below 1: not known yet
	Timeout     time.Duration // for one conversation; the controller's when zero
}

// ipmiPort is where BMCs listen for RMCP.
const ipmiPort = 623

func (t Target) hostPort() (string, int, error) {
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return t.Address, ipmiPort, t.check(t.Address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return host, int(n), t.check(host)
}

// The longest name and password that IPMI 2.0 can carry.
const (
	maxUsername = 16
	maxPassword = 20
)

func (t Target) check(host string) error {
	switch {
	case host == "":
		return fmt.Errorf("it has no address")
	case len(t.Username) > maxUsername:
		return fmt.Errorf("the user name is longer than %d bytes", maxUsername)
	case len(t.Password) > maxPassword:
		return fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	return nil
}

func (t Target) name() string {
	if t.Node != "" {
		return t.Node
	}
	return t.Address
}
