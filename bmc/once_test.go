package bmc_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// slowly is longer than any driver waits before it sends an order again that
// may be sent again.
const slowly = 3500 * time.Millisecond

// BMCs carry out an order as often as they get it, and a machine that is reset
// twice is not one that is reset once.
func TestAnOrderThatMayNotBeRepeatedIsSentOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for BMCs that take seconds to answer")
	}
	needIPMITool(t)
	tests := map[string]struct {
		op    fleet.PowerOp
		hangs bool // it carries the order out, and never answers
		want  error
		says  string
	}{
		"reset, answered late":      {op: fleet.PowerReset},
		"reset, never answered":     {fleet.PowerReset, true, bmc.ErrHangs, "not known whether it has reset the machine"},
		"a shutdown, answered late": {op: fleet.PowerSoft},
		"a shutdown, never answered": {
			fleet.PowerSoft, true, bmc.ErrHangs, "not known whether it has asked the system to shut down",
		},
	}
	for _, driver := range []fleet.BMCDriver{fleet.DriverIPMI, fleet.DriverIPMITool} {
		for name, tt := range tests {
			t.Run(string(driver)+": "+name, func(t *testing.T) {
				t.Parallel()
				target, c := startReference(t)
				target.Driver, target.CipherSuite = driver, 17
				if err := c.ChassisHAL.SetPower(t.Context(), true); err != nil {
					t.Fatal(err)
				}
				busy := make(chan struct{})
				c.setBusy(busy)
				answer := sync.OnceFunc(func() { close(busy) })
				t.Cleanup(answer)
				if !tt.hangs {
					time.AfterFunc(slowly, answer)
				}
				// A shutdown is waited for three times as long as other changes.
				ctl := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: slowly + time.Second, Settle: 2 * time.Second})
				_, err := ctl.Switch(t.Context(), target, tt.op)
				if !errors.Is(err, tt.want) {
					t.Errorf("Switch = %v, want %v", err, tt.want)
				}
				if err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("Switch = %v, which does not say %q", err, tt.says)
				}
				answer() // what else it was told is done now, before our session ends
				if _, err := ctl.Power(t.Context(), target); err != nil {
					t.Error(err)
				}
				if got := c.resets.Load() + c.shutdowns.Load(); got != 1 {
					t.Errorf("it was ordered %d times", got)
				}
			})
		}
	}
}
