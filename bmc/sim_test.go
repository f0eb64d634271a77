package bmc_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

const simPassword = "Secret123Secret1"

// A sim is one process of OpenIPMI's simulator. Its machine is three files.
type sim struct {
	dir  string
	addr string
	cmd  *exec.Cmd
}

func startSim(t *testing.T) *sim {
	t.Helper()
	return startSimWith(t, "")
}

// startSimWith starts one with a further line of configuration.
func startSimWith(t *testing.T, line string) *sim {
	t.Helper()
	return startSimThat(t, line, nil)
}

// startSimThat starts one with a further line of configuration, and commands
// that say what its BMC has.
func startSimThat(t *testing.T, line string, commands []string) *sim {
	t.Helper()
	if _, err := exec.LookPath("ipmi_sim"); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y openipmi", err)
	}
	s := &sim{dir: t.TempDir()}
	port := freePort(t)
	s.addr = net.JoinHostPort("127.0.0.1", port)
	hook, err := filepath.Abs("testdata/hook.sh")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile("testdata/lan.conf")
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("@PORT@", port, "@HOOK@", hook, "@DIR@", s.dir, "@PASSWORD@", simPassword, "@LINE@", line).Replace(string(conf))
	emu, err := os.ReadFile("testdata/commands.emu")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Replace(string(emu), "mc_enable", strings.Join(append(commands, "mc_enable"), "\n"), 1)
	for name, text := range map[string]string{"lan.conf": filled, "commands.emu": script, "power": "0", "boot": "none", "fault": "none"} {
		s.write(t, name, text)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.CommandContext(t.Context(), "ipmi_sim", "-n", "-c", filepath.Join(s.dir, "lan.conf"), "-f", filepath.Join(s.dir, "commands.emu"),
		"-s", filepath.Join(s.dir, "state"))
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	s.await(t)
	return s
}

func (s *sim) target() bmc.Target {
	return bmc.Target{Address: s.addr, Username: "admin", Password: simPassword}
}

func (s *sim) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *sim) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return strings.TrimSpace(string(b))
}

// await waits until the simulator answers.
func (s *sim) await(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		c := bmc.New(bmc.Options{}) // a new one each time: it would leave alone what does not answer
		if _, err = c.Power(t.Context(), s.target()); err == nil {
			return
		}
	}
	t.Fatalf("ipmi_sim does not answer: %v", err)
}

func freePort(t *testing.T) string {
	t.Helper()
	c, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

func TestIPMISimKeepsTheContract(t *testing.T) {
	t.Parallel()
	bmctest.Run(t, func(t *testing.T) bmctest.Subject { return startSim(t).subject(t, fleet.DriverIPMI) })
}

// subject is the simulator for the contract.
func (s *sim) subject(t *testing.T, driver fleet.BMCDriver) bmctest.Subject {
	t.Helper()
	target := s.target()
	target.Driver = driver
	return bmctest.Subject{
		Target: target, Found: bmc.Found{Driver: driver, CipherSuite: 3}, NoSuite: 17,
		On: func() bool { return s.read("power") == "1" },
		NextBoot: func() string {
			// ipmi_sim calls the disk "default".
			return map[string]string{"pxe": "pxe", "default": "disk"}[s.read("boot")]
		},
		SetFault: func(f bmctest.Fault) { s.write(t, "fault", string(f)) },
		Started:  func() {}, // it keeps the device
	}
}
