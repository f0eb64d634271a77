package bmc_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/clock"
	control "github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	ours "github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
)

// A chassis is the mock hardware of go-ipmi's reference BMC, with faults.
type chassis struct {
	hal.ChassisHAL
	mu    sync.Mutex
	fault bmctest.Fault
	drop  func(*types.BootOptionParam_BootFlags) // what it forgets of boot flags

	noNMI atomic.Bool // it is as it comes from its makers: the reference BMC knows no interrupt

	resets, shutdowns, interrupts atomic.Int32    // how often it was told to
	busy                          <-chan struct{} // until when none of them is answered; nil: at once
	told                          func()          // when it is busy from
}

// ordered is how often it was told what must not be repeated.
func (c *chassis) ordered() map[fleet.PowerOp]int32 {
	all := map[fleet.PowerOp]int32{fleet.PowerReset: c.resets.Load(), fleet.PowerSoft: c.shutdowns.Load(), fleet.PowerNMI: c.interrupts.Load()}
	maps.DeleteFunc(all, func(_ fleet.PowerOp, n int32) bool { return n == 0 })
	return all
}

// commands are those of the reference BMC, and Chassis Control with the
// diagnostic interrupt, for which its hardware has no place.
func (c *chassis) commands() *handlers.Registry {
	usual, all := handlers.NewRegistry(), handlers.NewRegistry()
	handlers.RegisterAllHandlers(usual)
	all.Merge(usual)
	command := types.CommandChassisControl
	all.RegisterFunc(command, func(ctx context.Context, in *handlers.HandlerContext, data []byte) ([]byte, types.CompletionCode, error) {
		if c.noNMI.Load() || len(data) != 1 || data[0] != byte(control.ChassisControlDiagnosticInterrupt) {
			return usual.Dispatch(ctx, in, uint8(command.NetFn), command.ID, data)
		}
		c.interrupts.Add(1)
		c.work()
		return nil, types.CodeOK, nil
	})
	return all
}

func (c *chassis) setFault(f bmctest.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// suffer reports whether the BMC shall still act.
func (c *chassis) suffer() (bool, error) {
	switch c.fault {
	case bmctest.Lying:
		return false, nil
	case bmctest.Refusing:
		return false, errors.New("no")
	case bmctest.Swallow:
		c.fault = bmctest.None
		return false, nil
	case bmctest.Slow:
		<-time.After(2 * time.Second)
	case bmctest.None:
	}
	return true, nil
}

// SetPower is what the BMC calls.
func (c *chassis) SetPower(ctx context.Context, on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if acts, err := c.suffer(); !acts {
		return err
	}
	return c.ChassisHAL.SetPower(ctx, on)
}

// ColdReset is what the BMC calls for a reset.
func (c *chassis) ColdReset(ctx context.Context) error {
	c.resets.Add(1)
	c.work()
	return c.ChassisHAL.ColdReset(ctx)
}

// WarmReset is what the BMC calls for a shutdown.
func (c *chassis) WarmReset(ctx context.Context) error {
	c.shutdowns.Add(1)
	c.work()
	return c.ChassisHAL.SetPower(ctx, false)
}

func (c *chassis) work() {
	c.mu.Lock()
	busy, told := c.busy, c.told
	c.mu.Unlock()
	if busy != nil {
		told()
		<-busy
	}
}

// setBusy has what must not be repeated be answered late; told is called when it is ordered.
func (c *chassis) setBusy(until <-chan struct{}, told func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy, c.told = until, told
}

// SetBootFlags is what the BMC calls.
func (c *chassis) SetBootFlags(ctx context.Context, flags *types.BootOptionParam_BootFlags) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if acts, err := c.suffer(); !acts {
		return err
	}
	if c.drop != nil {
		kept := *flags
		c.drop(&kept)
		flags = &kept
	}
	return c.ChassisHAL.SetBootFlags(ctx, flags)
}

func (c *chassis) forget(drop func(*types.BootOptionParam_BootFlags)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop = drop
}

type hardware struct {
	hal.HAL
	chassis *chassis
}

// Chassis is what the BMC switches.
func (h hardware) Chassis() hal.ChassisHAL { return h.chassis }

const referencePassword = "AnotherSecret123"

func startReference(t *testing.T) (ours.Target, *chassis) {
	t.Helper()
	target, c, _ := startReferenceWith(t, func(*mock.HAL) {}, func(*bmc.BMC) {})
	return target, c
}

func startReferenceWith(t *testing.T, equip func(*mock.HAL), admit func(*bmc.BMC)) (ours.Target, *chassis, *bmc.BMC) {
	t.Helper()
	conn, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	below := mock.New()
	equip(below)
	h := hardware{below, &chassis{ChassisHAL: below.Chassis()}}
	b := bmc.New(bmc.DeviceInfo{IPMIVersion: 0x20}, [16]byte{1}, h, bmc.WithClock(clock.Real))
	user, err := b.Users.Add(2, "admin")
	if err != nil {
		t.Fatal(err)
	}
	user.SetPassword([]byte(referencePassword))
	user.Enabled = true
	user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelOperator, Enabled: true}
	admit(b)
	s := server.NewServer(b, conn, server.WithHandlerRegistry(h.chassis.commands()))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	wg.Go(func() { _ = s.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		wg.Wait()
	})
	return ours.Target{Address: conn.LocalAddr().String(), Username: "admin", Password: referencePassword}, h.chassis, b
}

func TestTheReferenceBMCKeepsTheContract(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ stored, found int }{
		"with suite 17": {0, 17}, // by itself
		"with suite 3":  {3, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bmctest.Run(t, func(t *testing.T) bmctest.Subject {
				target, c := startReference(t)
				target.CipherSuite = tt.stored
				return subjectOf(t, target, c, ours.Found{Driver: fleet.DriverIPMI, CipherSuite: tt.found})
			})
		})
	}
}

// subjectOf is a reference BMC for the contract.
func subjectOf(t *testing.T, target ours.Target, c *chassis, found ours.Found) bmctest.Subject {
	t.Helper()
	return bmctest.Subject{
		Target: target, Found: found, NoSuite: 12,
		On: func() bool {
			on, err := c.PowerState(t.Context())
			return err == nil && on
		},
		NextBoot: func() string { return nextBootOf(t, c) },
		SetFault: c.setFault,
		Started:  func() { c.start(t) },
	}
}

// start is what firmware does with an override: the flag "valid" is cleared, and
// the rest is left.
func (c *chassis) start(t *testing.T) {
	t.Helper()
	f, err := c.GetBootFlags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.BootFlagsValid = false
	if err := c.ChassisHAL.SetBootFlags(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// nextBootOf is what the hardware was told to boot.
func nextBootOf(t *testing.T, c *chassis) string {
	t.Helper()
	f, err := c.GetBootFlags(t.Context())
	if err != nil || !f.BootFlagsValid {
		return ""
	}
	return map[types.BootDeviceSelector]string{
		types.BootDeviceSelectorForcePXE: "pxe", types.BootDeviceSelectorForceHardDrive: "disk",
	}[f.BootDeviceSelector]
}
