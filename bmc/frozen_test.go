package bmc_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

// A BMC froze after too many requests at once, in the field: its port is open,
// and nobody reads what comes in.
func TestABMCThatFreezesIsNamedAndUsedAgainWhenItGoesOn(t *testing.T) {
	t.Parallel()
	s := bmctest.StartIPMI(t, bmctest.IPMIOptions{})
	target := s.Target()
	target.CipherSuite = 3
	s.Signal(t, syscall.SIGSTOP)
	began := time.Now()
	err := bmc.New(bmc.Options{}).PowerOn(t.Context(), target)
	if !errors.Is(err, bmc.ErrNoAnswer) && !errors.Is(err, bmc.ErrHangs) || fleet.HintOf(err) == "" {
		t.Errorf("PowerOn = %v, hint %q; want no answer", err, fleet.HintOf(err))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	s.Signal(t, syscall.SIGCONT)
	if err := bmc.New(bmc.Options{Interval: time.Millisecond}).PowerOn(t.Context(), target); err != nil || !s.On() {
		t.Errorf("when it goes on: %v, the machine is on: %t", err, s.On())
	}
}
