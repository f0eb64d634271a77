package bmc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// graded are the checks of a report that are not ok, by name.
func graded(r fleet.BMCCheck) map[string]fleet.BMCGrade {
	bad := map[string]fleet.BMCGrade{}
	for _, it := range r.Results {
		if it.Grade != fleet.BMCOK {
			bad[it.Check] = it.Grade
		}
	}
	return bad
}

func names(r fleet.BMCCheck) (all []string) {
	for _, it := range r.Results {
		all = append(all, it.Check)
	}
	return all
}

// sound sees what holds of every report.
func sound(t *testing.T, r fleet.BMCCheck, target bmc.Target) {
	t.Helper()
	for _, it := range r.Results {
		if it.Grade != fleet.BMCOK && it.Fix == "" || it.Detail == "" {
			t.Errorf("%s is %s: %q, and to do is %q", it.Check, it.Grade, it.Detail, it.Fix)
		}
		if strings.Contains(it.Detail+it.Fix, string(target.Password)) {
			t.Errorf("%s shows the password", it.Check)
		}
	}
}

func TestABMCWithoutFaultIsFoundSo(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		open func(t *testing.T) bmc.Target
		bad  map[string]fleet.BMCGrade
		want []string

		quirks fleet.BMCQuirks
	}{
		"Redfish": {
			func(t *testing.T) bmc.Target {
				m := &redfish.Memory{}
				if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
					t.Fatal(err)
				}
				target, _ := startRedfishWith(t, bmctest.StartSSH(t, bmctest.SSHOptions{}), redfish.System{ID: "437XR", Machine: m}, redfish.Faults{NoBasic: true})
				return target
			},
			map[string]fleet.BMCGrade{},
			[]string{
				"sign in", "wrong password", "cipher suites", "certificate", "privilege", "sessions", "firmware", "system", "power state", "response time", "clock",
				"serial console", "boot from a URL", "virtual media", "boot device", "shutdown", "off and on", "reset", "as it was",
			},
			fleet.BMCQuirks{},
		},
		"the reference BMC": {
			func(t *testing.T) bmc.Target {
				target, _, _ := startReferenceConsole(t)
				return target
			},
			map[string]fleet.BMCGrade{"clock": fleet.BMCWarning}, // it has no event log
			[]string{
				"sign in", "wrong password", "cipher suites", "privilege", "sessions", "firmware", "power state", "response time", "clock",
				"serial console", "boot device", "shutdown", "off and on", "reset", "as it was",
			},
			fleet.BMCQuirks{},
		},
		"ipmi_sim": {
			func(t *testing.T) bmc.Target {
				return bmctest.StartIPMI(t, bmctest.IPMIOptions{Serial: bmctest.OpenSerialPort(t)}).Target()
			},
			// It takes suite 0, lives in 1970, and has boot devices without any flag.
			map[string]fleet.BMCGrade{"cipher suites": fleet.BMCFailed, "clock": fleet.BMCWarning, "boot device": fleet.BMCWarning},
			[]string{
				"sign in", "wrong password", "cipher suites", "privilege", "sessions", "firmware", "power state", "response time", "clock",
				"serial console", "boot device", "shutdown", "off and on", "reset", "as it was",
			},
			fleet.BMCQuirks{BootNoValid: true},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := tt.open(t)
			before, err := quick().Power(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			r, err := quick().Check(t.Context(), target, bmc.CheckOptions{Power: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, names(r)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.bad, graded(r)); diff != "" {
				t.Errorf("%s\n%+v", diff, r.Results)
			}
			sound(t, r, target)
			if r.Quirks != tt.quirks || r.Model.Firmware == "" {
				t.Errorf("%+v needs the quirks %+v, want %+v", r.Model, r.Quirks, tt.quirks)
			}
			if after, err := quick().Power(t.Context(), target); err != nil || after != before {
				t.Errorf("the machine was %s and is %s, %v", before, after, err)
			}
		})
	}
}

// startRedfishWith starts a Redfish service with an SSH service beside it, which it
// tells of, and without IPMI.
func startRedfishWith(t *testing.T, over *bmctest.SSH, system redfish.System, faults redfish.Faults) (bmc.Target, *redfish.Service) {
	t.Helper()
	if over != nil {
		system.Console = redfish.Console{Port: over.Port(), Entry: over.Command()}
	}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{system}, Faults: faults})
	target.Ports.IPMI = closedPort(t)
	return probed(t, target), s
}

// withIPMI is a BMC with a Redfish service and, at another port, IPMI with an
// account of the same name.
func withIPMI(t *testing.T, over *bmctest.SSH, ipmi bmc.Target, password bmc.Password) bmc.Target {
	t.Helper()
	system := redfish.System{Machine: &redfish.Memory{}}
	if over != nil {
		system.Console = redfish.Console{Port: over.Port(), Entry: over.Command()}
	}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{system}, Password: string(password)})
	target.Password = password
	target.Ports.IPMI = portOf(t, ipmi.Address)
	return probed(t, target)
}

// What IPMI gives is looked at beside Redfish too, and the console is opened by
// each way that there is.
func TestACheckOfRedfishLooksAtIPMIAndTheConsole(t *testing.T) {
	t.Parallel()
	type finding struct {
		grade fleet.BMCGrade
		says  string
	}
	reference := func(t *testing.T) (bmc.Target, *ipmi.BMC) {
		target, b, _ := startReferenceConsole(t)
		return target, b
	}
	tests := map[string]struct {
		open             func(t *testing.T) bmc.Target
		ciphers, console finding
		via              fleet.ConsoleVia
	}{
		"IPMI beside it": {
			func(t *testing.T) bmc.Target {
				r, b := reference(t)
				setSOL(t, b, 5, 8)
				return withIPMI(t, nil, r, referencePassword)
			},
			finding{fleet.BMCOK, "it takes 17 and 3; not 0"},
			finding{fleet.BMCOK, "opens by SOL, 38400 bit/s"},
			"",
		},
		"ipmi_sim beside it": {
			func(t *testing.T) bmc.Target {
				s := bmctest.StartIPMI(t, bmctest.IPMIOptions{Serial: bmctest.OpenSerialPort(t)}).Target()
				return withIPMI(t, nil, s, s.Password)
			},
			finding{fleet.BMCFailed, "it takes 3, and 0"},
			finding{fleet.BMCOK, "opens by SOL"},
			"",
		},
		"SSH only": {
			func(t *testing.T) bmc.Target {
				target, _ := startRedfishWith(t, bmctest.StartSSH(t, bmctest.SSHOptions{Command: "sol 1", Interactive: true}), redfish.System{Machine: &redfish.Memory{}}, redfish.Faults{})
				return target
			},
			finding{fleet.BMCOK, "IPMI over LAN is off"},
			finding{fleet.BMCOK, "opens over SSH, host key SHA256:"},
			"",
		},
		"neither": {
			func(t *testing.T) bmc.Target {
				target, _ := startRedfishWith(t, nil, redfish.System{Machine: &redfish.Memory{}}, redfish.Faults{})
				return target
			},
			finding{fleet.BMCOK, "IPMI over LAN is off"},
			finding{fleet.BMCWarning, "none: by IPMI, "},
			"",
		},
		"IPMI whose console is off": {
			func(t *testing.T) bmc.Target {
				r, b := reference(t)
				setSOL(t, b, 1, 0)
				return withIPMI(t, nil, r, referencePassword)
			},
			finding{fleet.BMCOK, "it takes 17 and 3; not 0"},
			finding{fleet.BMCWarning, "none: by IPMI, "},
			"",
		},
		"IPMI whose console is off, and SSH": {
			func(t *testing.T) bmc.Target {
				r, b := reference(t)
				setSOL(t, b, 1, 0)
				over := bmctest.StartSSH(t, bmctest.SSHOptions{Password: referencePassword})
				return withIPMI(t, over, r, referencePassword)
			},
			finding{fleet.BMCOK, "it takes 17 and 3; not 0"},
			finding{fleet.BMCWarning, "opens over SSH"},
			fleet.ConsoleSSH,
		},
		"IPMI with another password, and SSH": {
			func(t *testing.T) bmc.Target {
				r, _ := reference(t)
				return withIPMI(t, bmctest.StartSSH(t, bmctest.SSHOptions{}), r, "Secret123Secret1")
			},
			finding{fleet.BMCWarning, "IPMI does not take our account"},
			finding{fleet.BMCWarning, "opens over SSH"},
			fleet.ConsoleSSH,
		},
		"a password that IPMI cannot carry, and SSH": {
			func(t *testing.T) bmc.Target {
				r, _ := reference(t)
				const long = "Secret123Secret123Secret123"
				return withIPMI(t, bmctest.StartSSH(t, bmctest.SSHOptions{Password: long}), r, long)
			},
			finding{fleet.BMCWarning, "IPMI does not take our account"},
			finding{fleet.BMCWarning, "opens over SSH"},
			fleet.ConsoleSSH,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := tt.open(t)
			var logins atomic.Int64
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: longEnough, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err == nil && network == "udp" {
					conn = loginCounter{conn, &logins}
				}
				return conn, err
			}})
			r, err := c.Check(t.Context(), target, bmc.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for check, want := range map[string]finding{"cipher suites": tt.ciphers, "serial console": tt.console} {
				i := slices.IndexFunc(r.Results, func(it fleet.BMCResult) bool { return it.Check == check })
				if i < 0 || r.Results[i].Grade != want.grade || !strings.HasPrefix(strings.TrimPrefix(r.Results[i].Detail, "not 0; "), want.says) {
					t.Errorf("%s: %+v, want %+v", check, r.Results, want)
				}
			}
			if r.Quirks != (fleet.BMCQuirks{Console: tt.via}) {
				t.Errorf("it needs the quirks %+v, want the console by %q", r.Quirks, tt.via)
			}
			if tt.ciphers.grade == fleet.BMCWarning && logins.Load() > 1 {
				t.Errorf("by IPMI it was tried %d times to sign in: that locks accounts", logins.Load())
			}
			if tt.via != "" { // the profile is obeyed
				target.Quirks = r.Quirks
				openConsole(t, quick(), target, bmc.ConsoleOptions{})
			}
			sound(t, r, target)
		})
	}
}

func TestACheckLeavesAConsoleThatIsOpenToWhoHasIt(t *testing.T) {
	t.Parallel()
	target, _, port := startReferenceConsole(t)
	c := quick()
	screen := watch(openConsole(t, c, target, bmc.ConsoleOptions{}))
	r, err := c.Check(t.Context(), target, bmc.CheckOptions{ConsoleOpen: true})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Results, func(it fleet.BMCResult) bool { return it.Check == "serial console" })
	if i < 0 || r.Results[i].Grade != fleet.BMCOK || r.Results[i].Detail != "is open by SOL, and is left so" {
		t.Errorf("the console is found %+v", r.Results)
	}
	port.Print("still here")
	until(t, "it works on", func() bool { return strings.Contains(screen.String(), "still here") })
}

func TestACheckDoesNotTakeAnSSHHostKeyForAnother(t *testing.T) {
	t.Parallel()
	target, _ := startRedfishWith(t, bmctest.StartSSH(t, bmctest.SSHOptions{}), redfish.System{Machine: &redfish.Memory{}}, redfish.Faults{})
	target.HostKey = "SHA256:anotherone"
	r, err := quick().Check(t.Context(), target, bmc.CheckOptions{})
	if err != nil || graded(r)["serial console"] != fleet.BMCFailed {
		t.Errorf("Check = %+v, %v", r.Results, err)
	}
}

func TestACheckWithoutLeaveSwitchesNothing(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	r, err := quick().Check(t.Context(), probed(t, target), bmc.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := m.Boot(t.Context()); s.Counts().Resets != 0 || b.Enabled != "Disabled" {
		t.Errorf("%d resets, and it would boot %+v: %v", s.Counts().Resets, b, names(r))
	}
}

func TestABootDeviceThatSomebodyHasSetIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	set := redfish.Boot{Enabled: "Continuous", Target: "Hdd", Mode: "UEFI"}
	if err := m.SetBoot(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	r, err := quick().Check(t.Context(), probed(t, target), bmc.CheckOptions{})
	if err != nil || graded(r)["boot device"] != fleet.BMCWarning {
		t.Errorf("Check = %v, %v", graded(r), err)
	}
	if got, _ := m.Boot(t.Context()); got != set {
		t.Errorf("it would boot %+v, want %+v", got, set)
	}
}

// A hurried machine tells when its next boot from the network is set.
type hurried struct {
	redfish.Memory
	set func()
}

// SetBoot implements redfish.Machine.
func (h *hurried) SetBoot(ctx context.Context, b redfish.Boot) error {
	err := h.Memory.SetBoot(ctx, b)
	if b.Target == "Pxe" {
		h.set()
	}
	return err
}

func TestABootDeviceThatSomebodySetsDuringACheckStays(t *testing.T) {
	t.Parallel()
	c := quick()
	m := &hurried{set: func() {}}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	over := make(chan error, 1)
	m.set = sync.OnceFunc(func() {
		go func() { over <- c.SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.Disk, Once: true}) }()
	})
	r, err := c.Check(t.Context(), target, bmc.CheckOptions{})
	if err != nil || graded(r)["boot device"] != "" {
		t.Errorf("Check = %v, %v", r.Results, err)
	}
	if err := <-over; err != nil {
		t.Errorf("SetNextBoot = %v", err)
	}
	want := redfish.Boot{Enabled: "Once", Target: "Hdd", Mode: "UEFI"}
	if got, _ := m.Boot(t.Context()); got != want {
		t.Errorf("it would boot %+v, want %+v", got, want)
	}
}

func TestACheckThatIsGivenUpTakesTheBootDeviceBack(t *testing.T) {
	t.Parallel()
	m := &hurried{set: func() {}}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.set = cancel
	if _, err := quick().Check(ctx, target, bmc.CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Check = %v, want %v", err, context.Canceled)
	}
	if got, _ := m.Boot(t.Context()); got.Enabled != "Disabled" {
		t.Errorf("it would boot %+v", got)
	}
}

// faultyChecks are BMCs with a fault each: what a check finds, and which quirks
// it takes to get along with it.
var faultyChecks = map[string]struct {
	faults redfish.Faults
	change func(*bmc.Target)
	power  bool
	bad    map[string]fleet.BMCGrade
	quirks fleet.BMCQuirks
}{
	"shows no mode": {
		faults: redfish.Faults{NoMode: true}, quirks: fleet.BMCQuirks{},
	},
	"shows once as always": {
		faults: redfish.Faults{OnceIsContinuous: true}, bad: map[string]fleet.BMCGrade{"boot device": fleet.BMCWarning},
		quirks: fleet.BMCQuirks{OnceIsForEver: true},
	},
	"forgets the boot device": {
		faults: redfish.Faults{LyingBoot: true}, bad: map[string]fleet.BMCGrade{"boot device": fleet.BMCFailed},
	},
	"takes a boot device while it is off, which is not tried": {
		faults: redfish.Faults{BootNeedsOff: true}, bad: map[string]fleet.BMCGrade{"boot device": fleet.BMCFailed},
	},
	"takes a boot device while it is off": {
		faults: redfish.Faults{BootNeedsOff: true}, power: true, bad: map[string]fleet.BMCGrade{"boot device": fleet.BMCWarning},
		quirks: fleet.BMCQuirks{BootNeedsOff: true},
	},
	"lies about the power": {
		faults: redfish.Faults{Lying: true}, power: true,
		bad: map[string]fleet.BMCGrade{"shutdown": fleet.BMCWarning, "off and on": fleet.BMCFailed},
	},
	"is slow": {
		faults: redfish.Faults{Slow: time.Second, Transition: true}, power: true, bad: map[string]fleet.BMCGrade{"off and on": fleet.BMCWarning},
		quirks: fleet.BMCQuirks{Settle: -1},
	},
	"takes any password": {
		change: func(t *bmc.Target) { t.Password = "" }, bad: map[string]fleet.BMCGrade{"sign in": fleet.BMCFailed},
	},
	"has two sessions": {
		faults: redfish.Faults{NoBasic: true, Sessions: 2}, change: func(t *bmc.Target) { t.BasicAuth = false },
		bad: map[string]fleet.BMCGrade{"sessions": fleet.BMCWarning},
	},
	"shows no accounts": {
		faults: redfish.Faults{NoAccounts: true}, bad: map[string]fleet.BMCGrade{"privilege": fleet.BMCWarning},
	},
	"is another machine's": {
		change: func(t *bmc.Target) { t.UUID, t.Serial = "00000000-0000-4000-9000-000000000001", "X1" },
		bad:    map[string]fleet.BMCGrade{"system": fleet.BMCFailed},
	},
}

func TestACheckNamesEachFaultAndWhatItTakes(t *testing.T) {
	t.Parallel()
	for name, tt := range faultyChecks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &redfish.Memory{}
			if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
				t.Fatal(err)
			}
			target, s := startRedfishWith(t, bmctest.StartSSH(t, bmctest.SSHOptions{}), redfish.System{Machine: m}, redfish.Faults{})
			if tt.change != nil {
				tt.change(&target)
			}
			s.SetFaults(tt.faults)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: longEnough, CheckSettle: 4 * time.Second})
			r, err := c.Check(t.Context(), target, bmc.CheckOptions{Power: tt.power})
			if err != nil {
				t.Fatal(err)
			}
			if tt.bad == nil {
				tt.bad = map[string]fleet.BMCGrade{}
			}
			if diff := cmp.Diff(tt.bad, graded(r)); diff != "" {
				t.Errorf("%s\n%+v", diff, r.Results)
			}
			if tt.quirks.Settle < 0 { // measured
				if r.Quirks.Settle < 3*time.Second {
					t.Errorf("it is to be waited for %s only", r.Quirks.Settle)
				}
				tt.quirks.Settle = r.Quirks.Settle
			}
			if diff := cmp.Diff(tt.quirks, r.Quirks); diff != "" {
				t.Error(diff)
			}
			if tt.change == nil {
				sound(t, r, target)
			}
		})
	}
}

func TestACheckFindsWhatIPMINeeds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		drop   func(*types.BootOptionParam_BootFlags)
		dial   bmc.Dial
		quirks fleet.BMCQuirks
	}{
		"the firmware is forgotten":     {drop: func(f *types.BootOptionParam_BootFlags) { f.BIOSBootType = false }, quirks: fleet.BMCQuirks{BootNoMode: true}},
		"once is always":                {drop: func(f *types.BootOptionParam_BootFlags) { f.Persist = true }, quirks: fleet.BMCQuirks{OnceIsForEver: true}},
		"both":                          {drop: func(f *types.BootOptionParam_BootFlags) { f.Persist, f.BIOSBootType = true, false }, quirks: fleet.BMCQuirks{BootNoMode: true, OnceIsForEver: true}},
		"that it counts is never shown": {drop: func(f *types.BootOptionParam_BootFlags) { f.BootFlagsValid = false }, quirks: fleet.BMCQuirks{BootNoValid: true}},
		"that it counts is never shown, and once is always": {
			drop:   func(f *types.BootOptionParam_BootFlags) { f.BootFlagsValid, f.Persist = false, true },
			quirks: fleet.BMCQuirks{BootNoValid: true, OnceIsForEver: true},
		},
		"nothing but the device is shown": {
			drop: func(f *types.BootOptionParam_BootFlags) {
				f.BootFlagsValid, f.BIOSBootType, f.Persist = false, false, false
			},
			quirks: fleet.BMCQuirks{BootNoValid: true},
		},
		"suite 17 is not answered": {dial: withoutSuite17, quirks: fleet.BMCQuirks{CipherSuite: 3}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, chassis := startReference(t)
			chassis.forget(tt.drop)
			target.CipherSuite = 3
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: 3 * time.Second, Settle: longEnough, Dial: tt.dial})
			r, err := c.Check(t.Context(), target, bmc.CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Quirks != tt.quirks {
				t.Errorf("it needs %+v, want %+v: %+v", r.Quirks, tt.quirks, r.Results)
			}
		})
	}
}

func TestACertificateThatHasExpiredIsAWarning(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "bmc7"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.SetCertificate(tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key})
	r, err := quick().Check(t.Context(), probed(t, target), bmc.CheckOptions{})
	if err != nil || graded(r)["certificate"] != fleet.BMCWarning {
		t.Errorf("Check = %v, %v", graded(r), err)
	}
}

func TestACheckThatIsGivenUpEnds(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	s.SetFaults(redfish.Faults{Hangs: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := quick().Check(ctx, target, bmc.CheckOptions{}); err == nil || time.Since(began) > soon {
		t.Errorf("Check = %v after %s", err, time.Since(began))
	}
}

func TestACheckThatIsGivenUpLeavesTheMachineAsItWas(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &redfish.Memory{}
			target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
			target = probed(t, target)
			if on {
				if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var switched atomic.Bool
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: longEnough, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if m.IsOn() != on && !switched.Swap(true) { //nolint:contextcheck // a look at our own memory
					cancel()
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}})
			if _, err := c.Check(ctx, target, bmc.CheckOptions{Power: true}); err == nil || !switched.Load() {
				t.Fatalf("Check = %v; the power was switched: %t", err, switched.Load())
			}
			if m.IsOn() != on {
				t.Errorf("the machine is on: %t, want %t", m.IsOn(), on)
			}
		})
	}
}
