package bmc_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// webBMC is a BMC with Redfish and SSH, and nothing at the port of IPMI. Its
// service tells the port, and the command when it is told one.
func webBMC(t *testing.T, b *bmctest.SSH, driver fleet.BMCDriver, tells string) bmc.Target {
	t.Helper()
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "1", Machine: &redfish.Memory{}, Console: redfish.Console{Port: b.Port(), Entry: tells}}}})
	target = probed(t, target)
	target.Driver, target.Ports.IPMI = driver, closedPort(t)
	return target
}

// closedPort is one of UDP that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	port, err := strconv.Atoi(bmctest.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAConsoleIsReachedOverSSHWhereIPMIIsOff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		driver       fleet.BMCDriver
		entry, tells string
		interactive  bool
	}{
		"after iDRAC's command":              {fleet.DriverDell, "console com2", "", false},
		"after Supermicro's":                 {fleet.DriverSupermicro, "start /system1/sol1", "", true},
		"at once, OpenBMC's":                 {fleet.DriverOpenBMC, "", "", false},
		"after a command that it tells":      {fleet.DriverRedfish, "sol 1", "sol 1", false},
		"after one that differs from others": {fleet.DriverDell, "connect", "connect", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bmctest.StartSSH(t, bmctest.SSHOptions{Command: tt.entry, Interactive: tt.interactive})
			target := webBMC(t, b, tt.driver, tt.tells)
			console := openConsole(t, quick(), target, bmc.ConsoleOptions{})
			screen := watch(console)
			write(t, b, "login: ")
			until(t, "the machine is seen", func() bool { return strings.HasSuffix(screen.String(), "login: ") })
			if _, err := console.Write([]byte("root\r")); err != nil {
				t.Error(err)
			}
			until(t, "it has what is typed", func() bool { return b.Typed() == "root\r" })
			if err := console.Break(); err != nil || b.Breaks() != 1 {
				t.Errorf("Break = %v, %d breaks came", err, b.Breaks())
			}
			if got := console.(interface{ HostKey() string }).HostKey(); got != b.Fingerprint() {
				t.Errorf("the host key is told as %s, want %s", got, b.Fingerprint())
			}
			console.Close()
			if err := screen.end(t); !errors.Is(err, io.EOF) {
				t.Errorf("a closed console ends with %v", err)
			}
		})
	}
}

func TestAnotherHostKeyGetsNoPassword(t *testing.T) {
	t.Parallel()
	b := bmctest.StartSSH(t, bmctest.SSHOptions{Command: "console com2"})
	target := webBMC(t, b, fleet.DriverDell, "")
	target.HostKey = "SHA256:anotherone"
	_, err := quick().OpenConsole(t.Context(), target, bmc.ConsoleOptions{})
	if !errors.Is(err, bmc.ErrHostKey) || fleet.CodeOf(err) != "E-SOL-HOST-KEY" || !strings.Contains(err.Error(), b.Fingerprint()) {
		t.Errorf("OpenConsole = %v (%s)", err, fleet.CodeOf(err))
	}
	target.HostKey = b.Fingerprint()
	openConsole(t, quick(), target, bmc.ConsoleOptions{})
	target.Password = "Wr0ngPassw0rd"
	if _, err := quick().OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a wrong password: %v", err)
	}
}

// There are BMCs whose SSH has users of its own, and some that lock them after three
// wrong passwords.
func TestAPasswordIsTriedOnceOverSSH(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		interactive bool
		rounds      int
	}{
		"which takes it both ways":         {false, 0},
		"which asks for it":                {true, 0},
		"which asks for it again at once":  {true, 2},
		"which asks for it when it is not": {false, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bmctest.StartSSH(t, bmctest.SSHOptions{Interactive: tt.interactive, Rounds: tt.rounds, Password: "Another123Other1"})
			target := webBMC(t, b, fleet.DriverOpenBMC, "")
			c := quick()
			for i, want := range []int{1, 2, 2} { // the third is not asked any more
				if _, err := c.OpenConsole(t.Context(), target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrLogin) || fleet.CodeOf(err) != fleet.CodeBMCLogin {
					t.Errorf("OpenConsole = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrLogin)
				}
				if got := b.Refused(); got != want {
					t.Errorf("after the console was asked for %d times, %d passwords were refused, want %d", i+1, got, want)
				}
			}
			target.Driver = fleet.DriverRedfish
			if _, err := c.Power(t.Context(), target); err != nil {
				t.Errorf("the services that know it: %v", err)
			}
		})
	}
}

func TestABMCThatHangsUpEndsTheConsole(t *testing.T) {
	t.Parallel()
	b := bmctest.StartSSH(t, bmctest.SSHOptions{})
	screen := watch(openConsole(t, quick(), webBMC(t, b, fleet.DriverOpenBMC, ""), bmc.ConsoleOptions{}))
	write(t, b, "login: ")
	until(t, "the machine is seen", func() bool { return screen.String() == "login: " })
	b.HangUp()
	if err := screen.end(t); err == nil || errors.Is(err, io.EOF) || fleet.HintOf(err) == "" {
		t.Errorf("the console ends with %v", err)
	}
}

func TestABMCWithoutAnyConsoleSaysSo(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "1", Machine: &redfish.Memory{}}}})
	target = probed(t, target)
	target.Ports.IPMI = closedPort(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := quick().OpenConsole(ctx, target, bmc.ConsoleOptions{}); fleet.KindOf(err) != fleet.Unreachable || fleet.HintOf(err) == "" {
		t.Errorf("OpenConsole = %v", err)
	}
	target.Driver = fleet.DriverManual
	if _, err := quick().OpenConsole(ctx, target, bmc.ConsoleOptions{}); !errors.Is(err, bmc.ErrUnsupported) {
		t.Errorf("of a machine that people switch: %v", err)
	}
}
