package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A simPDU is net-snmp's agent with the objects of a PDU of kind apc. All but
// its outlet 1 is of no interest.
type simPDU struct {
	port string
	cmd  *exec.Cmd
}

// startSimPDU starts one with that outlet on, for who knows its community.
func startSimPDU(t *testing.T, community string) *simPDU {
	t.Helper()
	p := &simPDU{port: freeUDPPort(t)}
	t.Cleanup(p.end)
	p.begin(t, community)
	return p
}

// begin starts it, anew after end, and returns when it answers.
func (p *simPDU) begin(t *testing.T, community string) {
	t.Helper()
	const get, set = ".1.3.6.1.4.1.318.1.1.12.3.5.1.1.4", ".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4"
	dir := t.TempDir()
	script, err := os.ReadFile(filepath.Join("..", "..", "bmc", "testdata", "outlets.sh"))
	if err != nil {
		t.Fatal(err)
	}
	pass := strings.NewReplacer("@DIR@", dir, "@GET@", get, "@SET@", set, "@SETON@", "1", "@SETOFF@", "2", "@ISON@", "1", "@ISOFF@", "2").Replace(string(script))
	file := filepath.Join(dir, "pass")
	conf := fmt.Sprintf("agentAddress udp:127.0.0.1:%s\nrwcommunity %s 127.0.0.1\npass %s /bin/sh %s\npass %s /bin/sh %s\n", p.port, community, get, file, set, file)
	for name, text := range map[string]string{"pass": pass, "snmpd.conf": conf, "1": "1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd = exec.CommandContext(t.Context(), "snmpd", "-f", "-C", "-c", filepath.Join(dir, "snmpd.conf"), "-Lf", filepath.Join(dir, "log"), "-I", "-smux")
	p.cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+dir, "SNMPCONFPATH="+dir)
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y snmpd", err)
	}
	target := bmc.Target{
		Driver: fleet.DriverPDU, Address: "127.0.0.1:" + p.port, Password: bmc.Password(community),
		Outlets: fleet.PDUOutlets{Model: "apc", Outlets: []int{1}},
	}
	until(t, 10*time.Second, "snmpd answers", func(ctx context.Context) (bool, error) {
		state, err := bmc.New(bmc.Options{}).Power(ctx, target)
		if err == nil && state != fleet.PowerIsOn {
			err = errors.New("its outlet is " + string(state))
		}
		return true, err
	})
}

// end is a PDU without current.
func (p *simPDU) end() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	p.cmd = nil
}
