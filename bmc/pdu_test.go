package bmc_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

func TestAPDUSwitchesTheOutletsOfAMachine(t *testing.T) {
	t.Parallel()
	for model, user := range map[string]string{"apc": "", "apc-rpdu2": bmctest.PDUUser, "raritan": ""} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := bmctest.StartPDU(t, bmctest.PDUOptions{Model: model, Community: "private"})
			target := p.Target(1, 3)
			if user != "" {
				target.Username, target.Password = user, bmctest.Password
			}
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 8 * time.Second, Discharge: time.Millisecond})
			for _, step := range []struct {
				op   fleet.PowerOp
				want bool
			}{{fleet.PowerOn, true}, {fleet.PowerOff, false}, {fleet.PowerReset, true}, {fleet.PowerCycle, true}} {
				if _, err := c.Switch(t.Context(), target, step.op); err != nil {
					t.Fatalf("power %s: %v", step.op, err)
				}
				if p.On(1) != step.want || p.On(3) != step.want || p.On(2) {
					t.Errorf("after power %s the outlets are on: %t, %t, %t", step.op, p.On(1), p.On(2), p.On(3))
				}
			}
			p.Switch(t, 3, false)
			if got, err := c.Power(t.Context(), target); got != fleet.PowerIsUnknown || err != nil {
				t.Errorf("with one outlet on, Power = %s, %v", got, err)
			}
		})
	}
}

func TestWhatIsWrongWithAPDUIsNamed(t *testing.T) {
	t.Parallel()
	p := bmctest.StartPDU(t, bmctest.PDUOptions{Model: "apc", Community: "private"})
	tests := map[string]struct {
		change func(*bmc.Target)
		want   error
	}{
		"no such outlet":       {func(b *bmc.Target) { b.Outlets.Outlets = []int{9} }, bmc.ErrUnsupported},
		"another community":    {func(b *bmc.Target) { b.Password = "public" }, bmc.ErrNoAnswer},
		"a wrong password":     {func(b *bmc.Target) { b.Username, b.Password = bmctest.PDUUser, "Wr0ngPassw0rd" }, bmc.ErrLogin},
		"an unknown user":      {func(b *bmc.Target) { b.Username, b.Password = "nobody", bmctest.Password }, bmc.ErrLogin},
		"objects of another":   {func(b *bmc.Target) { b.Outlets.Model = "raritan" }, bmc.ErrUnsupported},
		"nobody there":         {func(b *bmc.Target) { b.Address = "127.0.0.1:" + bmctest.FreePort(t) }, bmc.ErrClosed},
		"a kind without a MIB": {func(b *bmc.Target) { b.Outlets.Model = "abacus" }, bmc.ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := p.Target(1, 3)
			tt.change(&target)
			_, err := quick().Power(t.Context(), target)
			if !errors.Is(err, tt.want) || fleet.HintOf(err) == "" {
				t.Errorf("Power = %v, want %v", err, tt.want)
			}
		})
	}
	p.Lie(t)
	if _, err := quick().Switch(t.Context(), p.Target(1, 3), fleet.PowerOn); !errors.Is(err, bmc.ErrNoEffect) {
		t.Errorf("of a PDU that says yes and does nothing: %v, want %v", err, bmc.ErrNoEffect)
	}
}
