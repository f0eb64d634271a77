// Package bmctest is what tests of BMCs share.
//
// [Run] is the contract between a kind of BMC and package bmc: what must hold
// for every one of them, simulated or real, and when it misbehaves. [IPMI],
// [PDU], [SSH] and [SerialPort] are what is spoken to: OpenIPMI's simulator, the
// agent of net-snmp, a BMC's SSH service, and the serial port that leads to it.
// For Redfish there is lab/redfish.
package bmctest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A Fault is a way in which a BMC misbehaves when it shall change the power, or
// what boots next.
type Fault string

// The faults.
const (
	None     Fault = "none"
	Lying    Fault = "lying"    // says yes and does nothing
	Refusing Fault = "refusing" // says that it cannot
	Slow     Fault = "slow"     // takes two seconds
	Swallow  Fault = "swallow"  // says yes and does nothing, once
)

// A Subject is one BMC under test, with its machine off, and the truth about
// it that does not come through IPMI.
type Subject struct {
	Target   bmc.Target
	Found    bmc.Found // what a probe has to find; a certificate is whatever it is
	NoSuite  int       // IPMI: one that it has not
	On       func() bool
	NextBoot func() string // "pxe", "disk" or ""
	SetFault func(Fault)
	Started  func() // the machine's firmware uses up what boots next, and leaves of it what firmware leaves
}

// endless is more than generous: what takes so long waits until patience ends,
// and not for the BMC.
const endless = 2 * generous

// controller is one with so much patience that only answers end anything.
func controller() *bmc.Controller {
	return bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: endless, Settle: endless})
}

// Run tests one kind of BMC. Open returns a fresh one each time.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("power", func(t *testing.T) { testPower(t, open(t)) })
	t.Run("next boot", func(t *testing.T) { testNextBoot(t, open(t)) })
	t.Run("next boot, again", func(t *testing.T) { testNextBootAgain(t, open(t)) })
	t.Run("account", func(t *testing.T) { testAccount(t, open(t)) })
	t.Run("crowd", func(t *testing.T) { testCrowd(t, open(t)) })
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait, mostly
			testFault(t, open(t), tt)
		})
	}
}

func testPower(t *testing.T, s Subject) {
	c := controller()
	steps := []struct {
		name string
		do   func(context.Context, bmc.Target) error
		want bool
	}{
		{"off when off", c.PowerOff, false},
		{"on when off", c.PowerOn, true},
		{"on when on", c.PowerOn, true},
		{"cycle when on", c.PowerCycle, true},
		{"off when on", c.PowerOff, false},
		{"cycle when off", c.PowerCycle, true},
	}
	for _, step := range steps { // in this order
		if err := step.do(t.Context(), s.Target); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := s.On(); got != step.want {
			t.Fatalf("%s: the machine is on: %t, want %t", step.name, got, step.want)
		}
		got, err := c.Power(t.Context(), s.Target)
		want := map[bool]fleet.PowerState{true: fleet.PowerIsOn, false: fleet.PowerIsOff}[step.want]
		if err != nil || got != want {
			t.Fatalf("%s: Power = %q, %v, want %q", step.name, got, err, want)
		}
	}
}

func testNextBoot(t *testing.T, s Subject) {
	c := controller()
	for _, b := range []bmc.Boot{
		{Device: bmc.PXE, Mode: bmc.UEFI, Once: true},
		{Device: bmc.Disk, Mode: bmc.UEFI, Once: true},
		{Device: bmc.PXE, Mode: bmc.BIOS, Once: true},
		{Device: bmc.PXE, Mode: bmc.UEFI, Once: false},
		{Device: bmc.PXE, Once: true},
	} {
		if err := c.SetNextBoot(t.Context(), s.Target, b); err != nil {
			t.Errorf("SetNextBoot(%+v): %v", b, err)
		}
		if got := s.NextBoot(); got != string(b.Device) {
			t.Errorf("after SetNextBoot(%+v) the machine would boot %q", b, got)
		}
	}
	err := c.SetNextBoot(t.Context(), s.Target, bmc.Boot{Device: "floppy"})
	if fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a floppy: %v, want an invalid input", err)
	}
}

// testNextBootAgain sets what was set before, and was used up. What is left of
// that is not what was asked for.
func testNextBootAgain(t *testing.T, s Subject) {
	c := controller()
	if err := c.SetNextBoot(t.Context(), s.Target, bmc.Boot{Device: bmc.PXE, Mode: bmc.BIOS, Once: true}); err != nil {
		t.Fatal(err)
	}
	s.Started()
	s.SetFault(Lying)
	t.Run("by a BMC that says yes and does nothing", func(t *testing.T) {
		for _, mode := range []bmc.Mode{bmc.UEFI, bmc.BIOS} {
			err := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 3 * time.Second}).
				SetNextBoot(t.Context(), s.Target, bmc.Boot{Device: bmc.PXE, Mode: mode, Once: true})
			if !errors.Is(err, bmc.ErrNoEffect) {
				t.Errorf("SetNextBoot(%s) = %v, want %v", mode, err, bmc.ErrNoEffect)
			}
		}
	})
	for _, fault := range []Fault{None, Slow} {
		s.SetFault(fault)
		if err := c.SetNextBoot(t.Context(), s.Target, bmc.Boot{Device: bmc.PXE, Mode: bmc.BIOS, Once: true}); err != nil {
			t.Errorf("by a BMC that is %s: %v", fault, err)
		}
		if got := s.NextBoot(); got != "pxe" {
			t.Errorf("by a BMC that is %s: the machine would boot %q", fault, got)
		}
		s.SetFault(None)
		s.Started()
	}
}

func testAccount(t *testing.T, s Subject) {
	found, err := controller().Probe(t.Context(), s.Target)
	want := s.Found
	want.Pin, want.Power = found.Pin, fleet.PowerIsOff
	if err != nil || found != want {
		t.Errorf("Probe = %+v, %v, want %+v", found, err, want)
	}
	tests := map[string]struct {
		change func(*bmc.Target)
		want   error
		kind   fleet.Kind
	}{
		"a wrong password":                  {func(b *bmc.Target) { b.Password = "Wr0ngPassw0rd" }, bmc.ErrLogin, fleet.Denied},
		"an empty password":                 {func(b *bmc.Target) { b.Password = "" }, bmc.ErrLogin, fleet.Denied},
		"an unknown user":                   {func(b *bmc.Target) { b.Username = "nobody" }, bmc.ErrLogin, fleet.Denied},
		"a cipher suite it has not got":     {func(b *bmc.Target) { b.CipherSuite = s.NoSuite }, bmc.ErrCipher, fleet.Unreachable},
		"a password that IPMI cannot carry": {func(b *bmc.Target) { b.Password = "ThisPasswordIsFarTooLong" }, nil, fleet.Invalid},
	}
	if s.Found.Driver != fleet.DriverIPMI {
		delete(tests, "a cipher suite it has not got")
		delete(tests, "a password that IPMI cannot carry")
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := s.Target
			target.Node = "n1"
			tt.change(&target)
			began := time.Now()
			_, err := controller().Power(t.Context(), target)
			if fleet.KindOf(err) != tt.kind || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Power = %v (%s), want %v (%s)", err, fleet.KindOf(err), tt.want, tt.kind)
			}
			if took := time.Since(began); took > generous {
				t.Errorf("it took %s to say so", took)
			}
			keepsSecret(t, err, target)
		})
	}
}

// keepsSecret looks for the password in everything that an error can show.
func keepsSecret(t *testing.T, err error, target bmc.Target) {
	t.Helper()
	secret := string(target.Password)
	if secret == "" || err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fleet.HintOf(err)} {
		if strings.Contains(text, secret) {
			t.Errorf("the error shows the password: %s", text)
		}
	}
}

// testCrowd has many ask and change one BMC at the same time.
func testCrowd(t *testing.T, s Subject) {
	c := controller()
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			var err error
			switch i % 3 {
			case 0:
				_, err = c.Power(t.Context(), s.Target)
			case 1:
				err = c.PowerOn(t.Context(), s.Target)
			case 2:
				err = c.SetNextBoot(t.Context(), s.Target, bmc.Boot{Device: bmc.PXE, Once: true})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !s.On() {
		t.Error("the machine is off in the end")
	}
}

var faults = map[string]struct {
	fault  Fault
	settle time.Duration
	want   error
	on     bool
}{
	"a BMC that says yes and does nothing": {Lying, 9 * time.Second, bmc.ErrNoEffect, false},
	"a BMC that refuses":                   {Refusing, endless, bmc.ErrRejected, false},
	"a slow BMC":                           {Slow, endless, nil, true},
	"a BMC that swallows the first order":  {Swallow, endless, nil, true},
}

func testFault(t *testing.T, s Subject, tt struct {
	fault  Fault
	settle time.Duration
	want   error
	on     bool
},
) {
	s.SetFault(tt.fault)
	began := time.Now()
	s.Target.Quirks.Settle = tt.settle
	err := controller().PowerOn(t.Context(), s.Target)
	if !errors.Is(err, tt.want) {
		t.Errorf("PowerOn = %v, want %v", err, tt.want)
	}
	if err != nil && fleet.HintOf(err) == "" {
		t.Errorf("%v comes without a hint", err)
	}
	if took := time.Since(began); took > generous {
		t.Errorf("it took %s", took)
	}
	if s.On() != tt.on {
		t.Errorf("the machine is on: %t, want %t", s.On(), tt.on)
	}
	keepsSecret(t, err, s.Target)
}
