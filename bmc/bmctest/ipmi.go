package bmctest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/bmc"
)

// Username is that of each simulator's first user; Password is his, of 16
// bytes, where none is told.
const (
	Username = "admin"
	Password = "Secret123Secret1"
)

// IPMIOptions say what a simulator of a BMC is like. The zero value is that of a
// machine that is off, at a free port of loopback.
type IPMIOptions struct {
	Addr     string // with its port
	Password string
	UUID     string      // of its machine; "": the number one
	On       bool        // the machine
	Serial   *SerialPort // of the machine; nil: none
	Commands []string    // of ipmi_sim's own, that say what the machine has
	Reports  string      // address that it says it has got from DHCP; "": it has no settings of its network
}

// An IPMI is OpenIPMI's simulator of a BMC. The machine that it is in is three
// files: they tell a test what no protocol shows.
type IPMI struct {
	program
	o IPMIOptions
}

// StartIPMI starts one until the test ends, and returns when it answers.
func StartIPMI(t *testing.T, o IPMIOptions) *IPMI {
	t.Helper()
	if o.Addr == "" {
		o.Addr = freeAddress(t)
	}
	if o.Password == "" {
		o.Password = Password
	}
	s := &IPMI{o: o}
	s.Begin(t, o.Password)
	return s
}

// Begin starts one that has ended anew, as it came from the factory but with
// this password, and returns when it answers.
func (s *IPMI) Begin(t *testing.T, password string) {
	t.Helper()
	s.o.Password = password
	dir := t.TempDir()
	t.Cleanup(s.End) // before the folder goes
	if err := s.launch(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	await(t, "ipmi_sim answers", func(ctx context.Context) error {
		_, err := bmc.New(bmc.Options{}).Power(ctx, s.Target()) // a new one each time: it would leave alone what does not answer
		return err
	})
}

// LaunchIPMI starts one whose files are in a folder, for who cannot ask whether
// it answers. [IPMI.End] ends it.
func LaunchIPMI(ctx context.Context, dir string, o IPMIOptions) (*IPMI, error) {
	s := &IPMI{o: o}
	return s, s.launch(ctx, dir)
}

func (s *IPMI) launch(ctx context.Context, dir string) error {
	s.dir = dir
	host, port, err := net.SplitHostPort(s.o.Addr)
	if err != nil {
		return err
	}
	guid := "00000000000000000000000000000001"
	if s.o.UUID != "" {
		guid = strings.ReplaceAll(s.o.UUID, "-", "")
	}
	power := "0"
	if s.o.On {
		power = "1"
	}
	data := struct {
		IPMIOptions
		Host, Port, GUID, Dir string
	}{s.o, host, port, guid, dir}
	if err := s.fill(data, []string{"lan.conf", "lan.sh", "hook.sh", "commands.emu"}, map[string]string{"power": power, "boot": "none", "fault": string(None)}); err != nil {
		return err
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	return s.start(ctx, "openipmi", nil, "ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "commands.emu"), "-s", state)
}

// Target is how it is spoken to: it has cipher suite 3 alone.
func (s *IPMI) Target() bmc.Target {
	return bmc.Target{Address: s.o.Addr, Username: Username, Password: bmc.Password(s.o.Password)}
}

// Port is the one that it listens on.
func (s *IPMI) Port() string {
	_, port, _ := net.SplitHostPort(s.o.Addr) // launch has seen it
	return port
}

// On reports whether the machine is.
func (s *IPMI) On() bool { return s.get("power") == "1" }

// NextBoot is "pxe", "disk" or "".
func (s *IPMI) NextBoot() string {
	return map[string]string{"pxe": "pxe", "default": "disk"}[s.get("boot")] // ipmi_sim calls the disk "default"
}

// SetFault has it misbehave.
func (s *IPMI) SetFault(t *testing.T, f Fault) {
	t.Helper()
	s.set(t, "fault", string(f))
}
