package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

// toolWrapper stands before ipmitool: it writes down what others can see of its
// process, and all of its environment but the one variable that is for a secret.
const toolWrapper = `#!/bin/sh
{ tr '\0' ' ' </proc/$$/cmdline; echo; tr '\0' '\n' </proc/$$/environ | grep -v '^IPMI_PASSWORD='; } >>DIR/ipmitool.ran
exec TOOL "$@"
`

// givers are machines whose rules give a password, by their drivers.
var givers = map[string]struct {
	mac    string
	orders []string
	denied string // what is said when the password is not taken
}{
	"ipmi":     {"52:54:01:00:00:01", []string{"cycle"}, fleet.CodeBMCLogin},
	"ipmitool": {"52:54:02:00:00:01", []string{"cycle"}, fleet.CodeBMCLogin},
	"redfish":  {"52:54:04:00:00:01", []string{"cycle"}, fleet.CodeBMCLogin},
	"pdu":      {"52:54:03:00:00:01", []string{"off", "on"}, fleet.CodeBMCTimeout}, // nobody is told that a community is wrong
}

// wrapTool puts the wrapper where the server looks for ipmitool.
func (l *life) wrapTool(t *testing.T) {
	t.Helper()
	tool, err := exec.LookPath("ipmitool")
	if err != nil {
		t.Fatalf("%v; install it with: apt-get install -y ipmitool", err)
	}
	bin := filepath.Join(l.dir, "bin")
	script := strings.NewReplacer("DIR", l.dir, "TOOL", tool).Replace(toolWrapper)
	err = errors.Join(os.Mkdir(bin, 0o700), os.WriteFile(filepath.Join(bin, "ipmitool"), []byte(script), 0o700)) //nolint:gosec // a program
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// meetGiven has these machines boot, and switches them.
func (l *life) meetGiven(t *testing.T) {
	t.Helper()
	for driver, g := range givers {
		m := l.meet(t, g.mac, "C0FFEE-"+driver, driver)
		l.secret("boot ticket", m.ticket)
		l.given[driver] = m.id
		if _, err := l.client.ProbeBMC(t.Context(), m.id, api.ProbeBMCRequest{}); err != nil {
			t.Fatalf("probe by %s: %v", driver, err)
		}
		for _, op := range g.orders {
			if state, err := l.client.Power(t.Context(), m.id, api.PowerRequest{Op: op}); err != nil {
				t.Errorf("power %s by %s: %s, %v", op, driver, state, err)
			}
		}
		_, err := l.client.Examine(t.Context(), m.id)
		l.note(err) // not all can
	}
	l.askGiven(t)
}

// askGiven signs in everywhere with what the rules give.
func (l *life) askGiven(t *testing.T) {
	t.Helper()
	for driver, node := range l.given {
		if state, err := l.client.Power(t.Context(), node, api.PowerRequest{Op: "status"}); err != nil || state != "on" {
			t.Errorf("power status by %s: %s, %v", driver, state, err)
		}
	}
}

// failGiven has their BMCs go, come back as others, and be themselves again.
func (l *life) failGiven(t *testing.T) {
	t.Helper()
	l.endGiven()
	for driver, node := range l.given {
		for _, op := range []string{"status", "off"} {
			_, err := l.client.Power(t.Context(), node, api.PowerRequest{Op: op})
			l.note(err)
			if code := codeOf(err); !strings.HasPrefix(code, "E-BMC-") {
				t.Errorf("power %s by %s of a BMC that is gone: %v", op, driver, err)
			}
		}
	}
	l.sim.Begin(t, bmctest.Password)
	l.pdu.Begin(t, bmctest.Password, bmctest.Password)
	l.serveBlade(bmctest.Password)
	for driver, node := range l.given {
		_, err := l.client.ProbeBMC(t.Context(), node, api.ProbeBMCRequest{})
		l.note(err)
		if code := codeOf(err); code != givers[driver].denied {
			t.Errorf("probe by %s of a BMC that takes another password: %v, want %s", driver, err, givers[driver].denied)
		}
	}
	l.endGiven()
	l.sim.Begin(t, givenSecret)
	l.pdu.Begin(t, communityWord, bmctest.Password)
	l.serveBlade(givenSecret)
}

func (l *life) endGiven() {
	l.sim.End()
	l.pdu.End()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blade = nil
}

func codeOf(err error) string {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return ""
	}
	return p.Code
}

// ranTool reports what was seen of ipmitool's processes: a search of nothing
// proves nothing.
func (l *life) ranTool(t *testing.T) {
	t.Helper()
	seen, err := os.ReadFile(filepath.Join(l.dir, "ipmitool.ran"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" -U admin -E ", "chassis power off", "chassis power status", "\nLC_ALL=C\n"} {
		if !bytes.Contains(seen, []byte(want)) {
			t.Errorf("what was seen of ipmitool has no %q:\n%s", want, tail(seen, 20))
		}
	}
}
