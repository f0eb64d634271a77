package bmc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

func needIPMITool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ipmitool"); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y ipmitool", err)
	}
}

func TestIPMIToolKeepsTheContract(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a minute on a busy machine")
	}
	needIPMITool(t)
	t.Run("with the reference BMC", func(t *testing.T) {
		t.Parallel()
		bmctest.Run(t, func(t *testing.T) bmctest.Subject {
			target, c := startReference(t)
			target.Driver, target.CipherSuite = fleet.DriverIPMITool, 17
			return subjectOf(t, target, c, bmc.Found{Driver: fleet.DriverIPMITool, CipherSuite: 17})
		})
	})
	t.Run("with ipmi_sim", func(t *testing.T) {
		t.Parallel()
		bmctest.Run(t, func(t *testing.T) bmctest.Subject { return simSubject(t, fleet.DriverIPMITool) })
	})
}

// A program that stands for ipmitool: it tells what it was given, and then does
// what real ones do when a BMC falls silent.
const silentTool = `#!/bin/sh
echo "$@" >"$DIR/args"
env >"$DIR/env"
sleep 60 &
wait
`

func TestIPMIToolIsKilledInTimeAndToldNoSecretWhereOthersRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tool := filepath.Join(dir, "ipmitool")
	if err := os.WriteFile(tool, []byte(strings.ReplaceAll(silentTool, "$DIR", dir)), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	target, _ := startReference(t)
	target.Driver = fleet.DriverIPMITool
	c := bmc.New(bmc.Options{IPMITool: tool, Timeout: time.Second})
	began := time.Now()
	_, err := c.Power(t.Context(), target)
	if !errors.Is(err, bmc.ErrHangs) {
		t.Errorf("Power = %v, want %v", err, bmc.ErrHangs)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("it took %s", took)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(args); strings.Contains(s, referencePassword) || !strings.Contains(s, " -C 17 ") {
		t.Errorf("its arguments are %s", s)
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || !strings.Contains(string(env), "IPMI_PASSWORD="+referencePassword+"\n") {
		t.Errorf("the password is not in its environment (%v)", err)
	}
}

func TestAMissingIPMIToolIsNamed(t *testing.T) {
	t.Parallel()
	target, _ := startReference(t)
	target.Driver = fleet.DriverIPMITool
	_, err := bmc.New(bmc.Options{IPMITool: "ipmitool-that-is-not-there"}).Power(t.Context(), target)
	if !errors.Is(err, bmc.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "not installed") {
		t.Errorf("Power = %v, want %v", err, bmc.ErrUnsupported)
	}
}

func TestIPMIToolFindsTheCipherSuite(t *testing.T) {
	t.Parallel()
	needIPMITool(t)
	tests := map[string]struct{ stored, quirk int }{
		"by itself":     {-1, 0},
		"by its quirk":  {-1, 3},
		"not by memory": {17, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := startSim(t) // with suite 3 alone
			target.Driver, target.CipherSuite, target.Quirks.CipherSuite = fleet.DriverIPMITool, tt.stored, tt.quirk
			found, err := quick().Probe(t.Context(), target)
			if err != nil || found.CipherSuite != 3 || found.Power != fleet.PowerIsOff {
				t.Errorf("Probe = %+v, %v, want suite 3", found, err)
			}
		})
	}
}
