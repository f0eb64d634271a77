package bmc_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// longEnough for what comes at once, and short for what never does.
const longEnough = 1500 * time.Millisecond

func TestEveryOperationTellsWhatWasAndIs(t *testing.T) {
	t.Parallel()
	type outcome struct {
		done fleet.Switched
		on   bool
		nmis int
		boot int // how often it has started, the first time included
		err  error
	}
	wasOn, wasOff := fleet.PowerIsOn, fleet.PowerIsOff
	tests := map[string]struct {
		on     bool
		deaf   bool // its system does not listen to the button
		faults redfish.Faults
		quirks fleet.BMCQuirks
		op     fleet.PowerOp
		want   outcome
	}{
		"on":     {op: fleet.PowerOn, want: outcome{done: fleet.Switched{Before: wasOff, After: wasOn}, on: true, boot: 1}},
		"off":    {on: true, op: fleet.PowerOff, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOff}, boot: 1}},
		"cycle":  {on: true, op: fleet.PowerCycle, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 2}},
		"status": {on: true, op: fleet.PowerStatus, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 1}},
		"soft":   {on: true, op: fleet.PowerSoft, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOff}, boot: 1}},
		"soft, which its system does not hear": {
			on: true, deaf: true, op: fleet.PowerSoft, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 1, err: bmc.ErrNoEffect},
		},
		"soft, of a BMC that cannot": {
			on: true, quirks: fleet.BMCQuirks{NoSoft: true}, op: fleet.PowerSoft,
			want: outcome{done: fleet.Switched{Before: fleet.PowerIsUnknown, After: fleet.PowerIsUnknown}, on: true, boot: 1, err: bmc.ErrUnsupported},
		},
		"reset":            {on: true, op: fleet.PowerReset, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 2}},
		"reset when off":   {op: fleet.PowerReset, want: outcome{done: fleet.Switched{Before: wasOff, After: wasOn}, on: true, boot: 1}},
		"reset by a cycle": {on: true, quirks: fleet.BMCQuirks{NoReset: true}, op: fleet.PowerReset, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 2}},
		"nmi":              {on: true, op: fleet.PowerNMI, want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 1, nmis: 1}},
		"nmi when off":     {op: fleet.PowerNMI, want: outcome{done: fleet.Switched{Before: wasOff, After: wasOff}, err: bmc.ErrRejected}},
		"nmi of one that cannot": {
			on: true, faults: redfish.Faults{NoNMI: true}, op: fleet.PowerNMI,
			want: outcome{done: fleet.Switched{Before: wasOn, After: wasOn}, on: true, boot: 1, err: bmc.ErrUnsupported},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &redfish.Memory{}
			m.IgnoreButton(tt.deaf)
			if tt.on {
				if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
					t.Fatal(err)
				}
			}
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
			target = probed(t, target)
			s.SetFaults(tt.faults)
			target.Quirks = tt.quirks
			target.Quirks.Settle = longEnough
			done, err := quick().Switch(t.Context(), target, tt.op)
			got := outcome{done: done, on: m.IsOn(), nmis: m.NMIs(), boot: len(m.Boots()), err: tt.want.err}
			if got != tt.want || !errors.Is(err, tt.want.err) {
				t.Errorf("Switch = %v, %+v, want %+v", err, got, tt.want)
			}
		})
	}
}

// A cycle that is ordered again before the first has settled never arrives at
// "on", so the off and the on of it are ordered and seen one after the other,
// however slow the BMC is.
func TestASlowCycleIsOneCycle(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	s.SetFaults(redfish.Faults{Slow: 3 * time.Second, Transition: true})
	for want := 1; want <= 2; want++ {
		if err := quick().PowerCycle(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if got := len(m.Boots()); got != want || !m.IsOn() {
			t.Errorf("it has started %d times, want %d", got, want)
		}
	}
}

func TestAShutdownThatIsRefusedIsCalledSo(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: time.Second})
	if err := c.PowerOn(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(redfish.Faults{Error: true})
	_, err := c.Switch(t.Context(), target, fleet.PowerSoft)
	if !errors.Is(err, bmc.ErrRejected) || errors.Is(err, bmc.ErrNoEffect) || !m.IsOn() {
		t.Errorf("Switch = %v, want %v; it is on: %t", err, bmc.ErrRejected, m.IsOn())
	}
}
