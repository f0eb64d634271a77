package bmc_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A victim is a machine that can be interrupted, and counts how often it was.
type victim struct {
	target     bmc.Target
	turn       func(on bool)
	interrupts func() int
	others     func() int // orders that were something else
}

// byIPMI is go-ipmi's reference BMC, as a driver sees it.
func byIPMI(t *testing.T, driver fleet.BMCDriver) victim {
	t.Helper()
	target, c := startReference(t)
	target.Driver, target.CipherSuite = driver, 17
	return victim{
		target,
		func(on bool) {
			if err := c.ChassisHAL.SetPower(t.Context(), on); err != nil {
				t.Fatal(err)
			}
		},
		func() int { return int(c.interrupts.Load()) },
		func() int { return int(c.resets.Load() + c.shutdowns.Load()) },
	}
}

// byRedfish is our Redfish service, as a driver sees it.
func byRedfish(t *testing.T, driver fleet.BMCDriver, faults redfish.Faults) victim {
	t.Helper()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1", Machine: m, Facts: redfish.Facts{Vendor: "Dell Inc."}}}})
	target.Driver = driver
	target = probed(t, target)
	s.SetFaults(faults)
	return victim{
		target,
		func(on bool) {
			if err := m.Do(t.Context(), map[bool]redfish.Switch{true: redfish.PowerOn, false: redfish.PowerOff}[on]); err != nil {
				t.Fatal(err)
			}
		},
		m.NMIs, func() int { return s.Counts().Resets - m.NMIs() },
	}
}

func TestAnInterruptGoesToAMachineThatIsOnOnce(t *testing.T) {
	t.Parallel()
	needIPMITool(t)
	tests := map[string]func(t *testing.T) victim{
		"ipmi":     func(t *testing.T) victim { return byIPMI(t, fleet.DriverIPMI) },
		"ipmitool": func(t *testing.T) victim { return byIPMI(t, fleet.DriverIPMITool) },
		"redfish":  func(t *testing.T) victim { return byRedfish(t, fleet.DriverRedfish, redfish.Faults{}) },
		"dell":     func(t *testing.T) victim { return byRedfish(t, fleet.DriverDell, redfish.Faults{}) },
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			if _, err := quick().Switch(t.Context(), v.target, fleet.PowerNMI); !errors.Is(err, bmc.ErrRejected) || v.interrupts() != 0 {
				t.Errorf("while it is off: %v, %d interrupts, want %v", err, v.interrupts(), bmc.ErrRejected)
			}
			v.turn(true)
			done, err := quick().Switch(t.Context(), v.target, fleet.PowerNMI)
			if want := (fleet.Switched{Before: fleet.PowerIsOn, After: fleet.PowerIsOn}); err != nil || done != want {
				t.Errorf("Switch = %+v, %v, want %+v", done, err, want)
			}
			if v.interrupts() != 1 || v.others() != 0 {
				t.Errorf("%d interrupts and %d other orders, want one and none", v.interrupts(), v.others())
			}
		})
	}
}

// It comes from the BMC, where that may have one, and else from the driver.
func TestWhoHasNoInterruptSaysSo(t *testing.T) {
	t.Parallel()
	needIPMITool(t)
	sim := func(t *testing.T, driver fleet.BMCDriver) bmc.Target {
		t.Helper()
		target := bmctest.StartIPMI(t, bmctest.IPMIOptions{On: true}).Target()
		target.Driver, target.CipherSuite = driver, 3
		return target
	}
	reference := func(t *testing.T, driver fleet.BMCDriver) bmc.Target {
		t.Helper()
		target, c := startReference(t)
		target.Driver, target.CipherSuite = driver, 17
		c.noNMI.Store(true)
		if err := c.ChassisHAL.SetPower(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		return target
	}
	service := func(t *testing.T, driver fleet.BMCDriver) bmc.Target {
		t.Helper()
		v := byRedfish(t, driver, redfish.Faults{NoNMI: true})
		v.turn(true)
		return v.target
	}
	tests := map[string]func(t *testing.T) bmc.Target{
		"ipmi: ipmi_sim, which calls its number invalid":                func(t *testing.T) bmc.Target { return sim(t, fleet.DriverIPMI) },
		"ipmi: the reference BMC, which calls its number too large":     func(t *testing.T) bmc.Target { return reference(t, fleet.DriverIPMI) },
		"ipmitool: ipmi_sim, which calls its number invalid":            func(t *testing.T) bmc.Target { return sim(t, fleet.DriverIPMITool) },
		"ipmitool: the reference BMC, which calls its number too large": func(t *testing.T) bmc.Target { return reference(t, fleet.DriverIPMITool) },
		"redfish: a service that does not list it":                      func(t *testing.T) bmc.Target { return service(t, fleet.DriverRedfish) },
		"dell: a service that does not list it":                         func(t *testing.T) bmc.Target { return service(t, fleet.DriverDell) },
		"pdu": func(t *testing.T) bmc.Target {
			return bmctest.StartPDU(t, bmctest.PDUOptions{Model: "apc", Community: "private", On: []int{1}}).Target(1)
		},
		"wol": func(*testing.T) bmc.Target {
			return bmc.Target{Node: "n1", Driver: fleet.DriverWOL, Wake: bmc.Wake{MACs: []string{"52:54:00:12:34:56"}, To: bmc.Broadcast(netip.Prefix{})}}
		},
		"manual": func(*testing.T) bmc.Target {
			return bmc.Target{Node: "n1", Address: "127.0.0.1", Driver: fleet.DriverManual}
		},
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := open(t)
			done, err := quick().Switch(t.Context(), target, fleet.PowerNMI)
			if !errors.Is(err, bmc.ErrUnsupported) || fleet.CodeOf(err) != fleet.CodeBMCUnsupported || fleet.HintOf(err) == "" {
				t.Errorf("Switch = %+v, %v (%s), want %v", done, err, fleet.CodeOf(err), bmc.ErrUnsupported)
			}
			if done.After == fleet.PowerIsOff {
				t.Error("the machine is off after that")
			}
		})
	}
}

// A machine that is interrupted twice has lost the crash dump of the first time:
// the order is not repeated where the line is cut before its answer.
func TestAnInterruptWhoseAnswerIsLostIsSentOnce(t *testing.T) {
	t.Parallel()
	for _, driver := range []fleet.BMCDriver{fleet.DriverRedfish, fleet.DriverDell} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			m := mute{&redfish.Memory{}, new(atomic.Pointer[func()])}
			if err := m.Memory.Do(t.Context(), redfish.PowerOn); err != nil {
				t.Fatal(err)
			}
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1", Machine: m, Facts: redfish.Facts{Vendor: "Dell Inc."}}}})
			target.Driver = driver
			target = probed(t, target)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 2 * slowly})
			_, err := c.Switch(t.Context(), target, fleet.PowerNMI)
			if !errors.Is(err, bmc.ErrHangs) || strings.Count(err.Error(), "not known whether it has sent the interrupt") != 1 {
				t.Errorf("Switch = %v, want %v, which says once that nobody knows", err, bmc.ErrHangs)
			}
			if m.NMIs() != 1 || s.Counts().Resets != 1 {
				t.Errorf("%d interrupts by %d orders, want one by one", m.NMIs(), s.Counts().Resets)
			}
		})
	}
}
