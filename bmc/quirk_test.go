package bmc_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A quirky is a BMC that needs a quirk, and what does not go without.
type quirky struct {
	quirks  fleet.BMCQuirks
	without []error // how it fails: with one of them
	open    func(t *testing.T) func(quirks fleet.BMCQuirks) error
}

// impatient is a controller that gives up soon.
func impatient(dial bmc.Dial) *bmc.Controller {
	return bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 2 * time.Second, Settle: longEnough, Dial: dial})
}

func pxeOnce() bmc.Boot { return bmc.Boot{Device: bmc.PXE, Once: true} }

var quirkyBMCs = map[string]quirky{
	"one that hangs when it is asked for cipher suite 17": {
		fleet.BMCQuirks{CipherSuite: 3}, []error{bmc.ErrNoAnswer, bmc.ErrHangs}, func(t *testing.T) func(fleet.BMCQuirks) error {
			target, _ := startReference(t)
			c := impatient(withoutSuite17)
			return func(q fleet.BMCQuirks) error {
				target.Quirks = q
				found, err := c.Probe(t.Context(), target)
				if err == nil && found.CipherSuite != 3 {
					t.Errorf("it is spoken to with suite %d", found.CipherSuite)
				}
				return err
			}
		},
	},
	"one whose IPMI forgets the firmware that shall boot": {
		fleet.BMCQuirks{BootNoMode: true}, []error{bmc.ErrNoEffect}, forgetful(func(f *types.BootOptionParam_BootFlags) { f.BIOSBootType = types.BIOSBootTypeLegacy }),
	},
	"one whose IPMI shows once as for ever": {
		fleet.BMCQuirks{OnceIsForEver: true}, []error{bmc.ErrNoEffect}, forgetful(func(f *types.BootOptionParam_BootFlags) { f.Persist = true }),
	},
	"one whose IPMI never shows that a boot device counts": {
		fleet.BMCQuirks{BootNoValid: true}, []error{bmc.ErrNoEffect}, forgetful(func(f *types.BootOptionParam_BootFlags) { f.BootFlagsValid = false }),
	},
	"one whose Redfish sets no boot device": {
		fleet.BMCQuirks{BootByIPMI: true}, []error{bmc.ErrUnsupported}, func(t *testing.T) func(fleet.BMCQuirks) error {
			target, s := startRedfishAs(t, redfish.Options{Password: referencePassword}, referencePassword)
			s.SetFaults(redfish.Faults{NoPatch: true})
			ipmi, _ := startReference(t)
			target.Address, target.Ports = "127.0.0.1", fleet.BMCPorts{IPMI: portOf(t, ipmi.Address), HTTPS: portOf(t, target.Address)}
			return func(q fleet.BMCQuirks) error {
				target.Quirks = q
				return impatient(nil).SetNextBoot(t.Context(), target, pxeOnce())
			}
		},
	},
	"one whose sessions fail": {
		fleet.BMCQuirks{NoSessions: true}, []error{bmc.ErrRejected}, func(t *testing.T) func(fleet.BMCQuirks) error {
			target, s := startRedfish(t, redfish.Options{})
			s.SetFaults(redfish.Faults{NoLogin: true})
			return func(q fleet.BMCQuirks) error {
				target.Quirks = q
				found, err := impatient(nil).Probe(t.Context(), target)
				if err != nil {
					return err
				}
				return impatient(nil).PowerOn(t.Context(), found.Use(target))
			}
		},
	},
	"one that needs a pause": {
		fleet.BMCQuirks{Interval: 1200 * time.Millisecond}, []error{bmc.ErrRejected}, func(t *testing.T) func(fleet.BMCQuirks) error {
			target, s := startRedfish(t, redfish.Options{})
			target = probed(t, target)
			return func(q fleet.BMCQuirks) error {
				target.Quirks = q
				s.SetFaults(redfish.Faults{})
				c := impatient(nil)
				if _, err := c.Power(t.Context(), target); err != nil {
					t.Fatal(err)
				}
				s.SetFaults(redfish.Faults{Rest: time.Second})
				_, err := c.Power(t.Context(), target)
				return err
			}
		},
	},
	"one that switches slowly": {
		fleet.BMCQuirks{Settle: 20 * time.Second}, []error{bmc.ErrNoEffect}, func(t *testing.T) func(fleet.BMCQuirks) error {
			return func(q fleet.BMCQuirks) error {
				target, s := startRedfish(t, redfish.Options{})
				target = probed(t, target)
				s.SetFaults(redfish.Faults{Slow: 2 * longEnough})
				target.Quirks = q
				return impatient(nil).PowerOn(t.Context(), target)
			}
		},
	},
}

// forgetful is a reference BMC that does not keep all of its boot flags.
func forgetful(drop func(*types.BootOptionParam_BootFlags)) func(t *testing.T) func(fleet.BMCQuirks) error {
	return func(t *testing.T) func(fleet.BMCQuirks) error {
		target, c := startReference(t)
		c.forget(drop)
		return func(q fleet.BMCQuirks) error {
			target.Quirks = q
			return impatient(nil).SetNextBoot(t.Context(), target, pxeOnce())
		}
	}
}

func TestEachQuirkIsObeyedByTheDriver(t *testing.T) {
	t.Parallel()
	for name, tt := range quirkyBMCs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try := tt.open(t)
			if err := try(fleet.BMCQuirks{}); !slices.ContainsFunc(tt.without, func(want error) bool { return errors.Is(err, want) }) {
				t.Errorf("without its quirks: %v, want %v", err, tt.without)
			}
			if err := try(tt.quirks); err != nil {
				t.Errorf("with its quirks: %v", err)
			}
		})
	}
}

// startRedfishAs is startRedfish with another password, probed.
func startRedfishAs(t *testing.T, o redfish.Options, password bmc.Password) (bmc.Target, *redfish.Service) {
	t.Helper()
	target, s := startRedfish(t, o)
	target.Password = password
	return probed(t, target), s
}

// withoutSuite17 loses each request for a session with cipher suite 17.
func withoutSuite17(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return suiteFilter{conn}, err
}

type suiteFilter struct{ net.Conn }

// Write sends what is no request for a session with HMAC-SHA256.
func (f suiteFilter) Write(b []byte) (int, error) {
	const openSession, algorithmAt, sha256 = 0x10, 28, 3
	if len(b) > algorithmAt && b[5]&0x3f == openSession && b[algorithmAt] == sha256 {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return addr.Port
}

func TestABootDeviceThatNeedsTheMachineOffIsNotSetBefore(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	s.SetFaults(redfish.Faults{BootNeedsOff: true})
	c := impatient(nil)
	if err := c.PowerOn(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := c.SetNextBoot(t.Context(), target, pxeOnce()); !errors.Is(err, bmc.ErrNoEffect) {
		t.Errorf("without the quirk: %v, want %v", err, bmc.ErrNoEffect)
	}
	target.Quirks.BootNeedsOff = true
	err := c.SetNextBoot(t.Context(), target, pxeOnce())
	if !errors.Is(err, bmc.ErrNeedsOff) || fleet.CodeOf(err) != fleet.CodeBMCNeedsOff || !m.IsOn() {
		t.Errorf("while it is on: %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrNeedsOff)
	}
	if err := c.PowerOff(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := c.SetNextBoot(t.Context(), target, pxeOnce()); err != nil {
		t.Errorf("while it is off: %v", err)
	}
	if b, _ := m.Boot(t.Context()); b.Target != "Pxe" {
		t.Errorf("it would boot %+v", b)
	}
}

// What a shutdown is answered with does not matter: whether the machine is off
// does.
func TestAShutdownThatIsSaidToHaveFailedCounts(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	c := impatient(nil)
	if err := c.PowerOn(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(redfish.Faults{SoftFails: true})
	if _, err := c.Switch(t.Context(), target, fleet.PowerSoft); err != nil || m.IsOn() {
		t.Errorf("Switch = %v, on %t", err, m.IsOn())
	}
}

func TestAConsoleIsOpenedAtTheSpeedOfTheMachine(t *testing.T) {
	t.Parallel()
	target, b, _ := startReferenceConsole(t)
	setSOL(t, b, 6, 10)
	target.Quirks.BitRate = 19200
	console := openConsole(t, bmc.New(bmc.Options{}), target, bmc.ConsoleOptions{})
	if got := console.BitRate(); got != 19200 {
		t.Errorf("BitRate = %d, want 19200", got)
	}
}
