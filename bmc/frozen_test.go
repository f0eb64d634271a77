package bmc_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A BMC froze after too many requests at once, in the field: its port is open,
// and nobody reads what comes in.
func TestABMCThatFreezesIsNamedAndUsedAgainWhenItGoesOn(t *testing.T) {
	t.Parallel()
	s := startSim(t)
	target := s.target()
	target.CipherSuite = 3
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := bmc.New(bmc.Options{}).PowerOn(t.Context(), target)
	if !errors.Is(err, bmc.ErrNoAnswer) && !errors.Is(err, bmc.ErrHangs) || fleet.HintOf(err) == "" {
		t.Errorf("PowerOn = %v, hint %q; want no answer", err, fleet.HintOf(err))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := bmc.New(bmc.Options{Interval: time.Millisecond}).PowerOn(t.Context(), target); err != nil || s.read("power") != "1" {
		t.Errorf("when it goes on: %v, power %s", err, s.read("power"))
	}
}
