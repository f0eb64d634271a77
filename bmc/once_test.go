package bmc_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
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
		"an interrupt, answered late":  {op: fleet.PowerNMI},
		"an interrupt, never answered": {fleet.PowerNMI, true, bmc.ErrHangs, "not known whether it has sent the interrupt"},
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
				answer := sync.OnceFunc(func() { close(busy) })
				t.Cleanup(answer)
				c.setBusy(busy, func() {
					if !tt.hangs {
						time.AfterFunc(slowly, answer) // however long the login took
					}
				})
				// A shutdown is waited for three times as long as other changes.
				ctl := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: slowly + 2*time.Second, Settle: 3 * time.Second})
				_, err := ctl.Switch(t.Context(), target, tt.op)
				if !errors.Is(err, tt.want) {
					t.Errorf("Switch = %v, want %v", err, tt.want)
				}
				if err != nil && strings.Count(err.Error(), tt.says) != 1 {
					t.Errorf("Switch = %v, which does not say %q once", err, tt.says)
				}
				answer() // what else it was told is done now, before our session ends
				if _, err := ctl.Power(t.Context(), target); err != nil {
					t.Error(err)
				}
				if got := c.ordered(); !maps.Equal(got, map[fleet.PowerOp]int32{tt.op: 1}) {
					t.Errorf("it was ordered %v, want %s once", got, tt.op)
				}
			})
		}
	}
}

// A mute machine does what it is told, and its BMC does not come to say so.
type mute struct {
	*redfish.Memory
	looked *atomic.Pointer[func()] // when somebody looks at its power
}

// On tells whether it is on.
func (m mute) On(ctx context.Context) (bool, error) {
	if f := m.looked.Load(); f != nil {
		(*f)()
	}
	return m.Memory.On(ctx)
}

// Do moves a switch.
func (m mute) Do(ctx context.Context, s redfish.Switch) error {
	err := m.Memory.Do(ctx, s)
	<-ctx.Done()
	return err
}

// A BMC that was slow before is the one on which people repeat an order.
func TestWhatASlowBMCWasToldOnceIsNotKnownToBeDone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		op   fleet.PowerOp
		says string
	}{
		"reset":        {fleet.PowerReset, "not known whether it has reset the machine"},
		"a shutdown":   {fleet.PowerSoft, "not known whether it has asked the system to shut down"},
		"an interrupt": {fleet.PowerNMI, "not known whether it has sent the interrupt"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mute{&redfish.Memory{}, new(atomic.Pointer[func()])}
			if err := m.Memory.Do(t.Context(), redfish.PowerOn); err != nil {
				t.Fatal(err)
			}
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
			target = probed(t, target)
			target.BasicAuth = true
			prompt := func() { s.SetFaults(redfish.Faults{}) }
			m.looked.Store(&prompt) // what is late then is the machine
			s.SetFaults(redfish.Faults{Delay: 2100 * time.Millisecond})
			_, err := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: slowly}).Switch(t.Context(), target, tt.op)
			if !errors.Is(err, bmc.ErrSlow) || strings.Count(err.Error(), tt.says) != 1 {
				t.Errorf("Switch = %v, want %v, which says %q once", err, bmc.ErrSlow, tt.says)
			}
			if got, want := s.Counts().Resets, map[fleet.PowerOp]int{fleet.PowerNMI: 1}[tt.op]; got != 1 || m.NMIs() != want {
				t.Errorf("it was ordered %d times, and has got %d interrupts", got, m.NMIs())
			}
		})
	}
}
