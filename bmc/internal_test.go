package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

func TestAPasswordShowsItselfToNobody(t *testing.T) {
	const secret = "Tr0ub4dor"
	target := Target{Address: "10.0.0.1", Password: secret}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "password", target.Password, "target", target)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", target.Password, "target", target)
	encoded, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	shown := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, target) + fmt.Sprintf(verb, target.Password)
	}
	for _, s := range []string{secret, fmt.Sprintf("%x", secret)} {
		if strings.Contains(shown, s) {
			t.Errorf("%q is in %s", s, shown)
		}
	}
}

func TestABootOverrideIsBelievedWhenItIsReadBack(t *testing.T) {
	const pxe, disk = types.BootDeviceSelectorForcePXE, types.BootDeviceSelectorForceHardDrive
	once := Boot{Device: PXE, Mode: UEFI, Once: true}
	tests := map[string]struct {
		flags  types.BootOptionParam_BootFlags
		quirks fleet.BMCQuirks
		want   bool
	}{
		"all as asked":            {flags: types.BootOptionParam_BootFlags{BootFlagsValid: true, BIOSBootType: true, BootDeviceSelector: pxe}, want: true},
		"another device":          {flags: types.BootOptionParam_BootFlags{BootFlagsValid: true, BIOSBootType: true, BootDeviceSelector: disk}},
		"another firmware":        {flags: types.BootOptionParam_BootFlags{BootFlagsValid: true, BootDeviceSelector: pxe}},
		"for ever":                {flags: types.BootOptionParam_BootFlags{BootFlagsValid: true, BIOSBootType: true, Persist: true, BootDeviceSelector: pxe}},
		"the device alone":        {flags: types.BootOptionParam_BootFlags{BootDeviceSelector: pxe}},
		"all, and marked as void": {flags: types.BootOptionParam_BootFlags{BIOSBootType: true, BootDeviceSelector: pxe}},
		"nothing":                 {},
		"no firmware, which is known of it": {
			types.BootOptionParam_BootFlags{BootFlagsValid: true, BootDeviceSelector: pxe}, fleet.BMCQuirks{BootNoMode: true}, true,
		},
		"for ever, which is known of it": {
			types.BootOptionParam_BootFlags{BootFlagsValid: true, BIOSBootType: true, Persist: true, BootDeviceSelector: pxe}, fleet.BMCQuirks{OnceIsForEver: true}, true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := once.agrees(tt.flags, tt.quirks); got != tt.want {
				t.Errorf("agrees(%+v) = %t, want %t", tt.flags, got, tt.want)
			}
		})
	}
}

func TestCipherSuiteZeroIsNeverTried(t *testing.T) {
	g := newGate()
	tests := map[int][]types.CipherSuiteID{-1: {17, 3}, 0: {17, 3}, 17: {17}, 3: {3}, 255: {17, 3}}
	for stored, want := range tests {
		if got := g.suites(stored); !cmp.Equal(got, want) {
			t.Errorf("suites(%d) = %v, want %v", stored, got, want)
		}
	}
	g.learn(3)
	if got := g.suites(-1); !cmp.Equal(got, []types.CipherSuiteID{3}) {
		t.Errorf("after suite 3 has worked, suites = %v", got)
	}
}

func TestABMCRestsBetweenConversations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		if err := take(t.Context(), g.talks); err != nil {
			t.Fatal(err)
		}
		g.leave()
		began := time.Now()
		if err := g.rest(t.Context(), 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("rested for %s, want 5s", got)
		}
	})
}

func TestFailuresHaveNames(t *testing.T) {
	tests := map[string]struct {
		err  error
		want error
		kind fleet.Kind
	}{
		"no route":             {syscall.EHOSTUNREACH, ErrNoRoute, fleet.Unreachable},
		"no network":           {syscall.ENETUNREACH, ErrNoRoute, fleet.Unreachable},
		"a closed port":        {syscall.ECONNREFUSED, ErrClosed, fleet.Unreachable},
		"no session":           {types.NewRmcpStatusError(types.RmcpStatusCodeNoResToCreateSess), ErrSessions, fleet.Unreachable},
		"no such cipher suite": {types.NewRmcpStatusError(types.RmcpStatusCodeNoCipherSuiteMatch), ErrCipher, fleet.Unreachable},
		"no such user":         {types.NewRmcpStatusError(types.RmcpStatusCodeUnauthorizedName), ErrLogin, fleet.Denied},
		"no such privilege":    {types.NewRmcpStatusError(types.RmcpStatusCodeUnauthorizedRoleOfPriLevel), ErrDenied, fleet.Denied},
		"a command above it":   {types.NewResponseError(0xd4, "insufficient privilege"), ErrDenied, fleet.Denied},
		"a busy BMC":           {types.NewResponseError(0xc0, "node busy"), ErrRejected, fleet.Unreachable},
		"anything else":        {errors.New("garbled"), ErrNoAnswer, fleet.Unreachable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := trouble("power on", Target{Node: "n1", Address: "10.0.0.1"}, classify(fmt.Errorf("step: %w", tt.err)))
			if !errors.Is(err, tt.want) || fleet.KindOf(err) != tt.kind || fleet.CodeOf(err) == "" {
				t.Errorf("got %v (%s, %s), want %v (%s)", err, fleet.KindOf(err), fleet.CodeOf(err), tt.want, tt.kind)
			}
			if !strings.Contains(fleet.HintOf(err), "provision power status n1") {
				t.Errorf("hint is %q", fleet.HintOf(err))
			}
		})
	}
}

func FuzzWhatABMCSaysBreaksNothing(f *testing.F) {
	f.Add([]byte{0x06, 0, 0xff, 0x07, 0x06, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x01})
	f.Add([]byte{0x06, 0, 0xff, 0x07})
	f.Fuzz(func(t *testing.T, b []byte) {
		isIPMI(b)
		e := &ear{last: b}
		err := e.status(types.ErrUnpackedDataTooShort)
		if err == nil || nameOf(err) == nil {
			t.Errorf("an answer that is too short became %v", err)
		}
	})
}

func TestCipherSuitesAreRead(t *testing.T) {
	tests := map[string]struct {
		list []byte
		want map[byte]bool
	}{
		"0, 3 and 17":        {[]byte{0xc0, 0, 0x00, 0x40, 0x80, 0xc0, 3, 0x01, 0x41, 0x81, 0xc0, 17, 0x03, 0x44, 0x81}, map[byte]bool{0: true, 3: true, 17: true}},
		"a manufacturer's":   {[]byte{0xc1, 0, 1, 2, 3, 0x01, 0x41, 0xc0, 3, 0x01}, map[byte]bool{3: true}},
		"a cut record":       {[]byte{0xc0, 3, 0x01, 0xc0}, map[byte]bool{3: true}},
		"garbage at the end": {[]byte{0xc0, 3, 0x01, 0xc7, 0}, map[byte]bool{3: true}},
		"nothing":            {nil, map[byte]bool{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseSuites(tt.list)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A talker is a BMC that answers whatever it wants.
type talker struct{ says []byte }

func (a *talker) Read(b []byte) (int, error)       { return copy(b, a.says), nil }
func (a *talker) Write(b []byte) (int, error)      { return len(b), nil }
func (*talker) Close() error                       { return nil }
func (*talker) LocalAddr() net.Addr                { return nil }
func (*talker) RemoteAddr() net.Addr               { return nil }
func (*talker) SetDeadline(time.Time) error        { return nil }
func (*talker) SetReadDeadline(time.Time) error    { return nil }
func (*talker) SetWriteDeadline(t time.Time) error { return nil }

func FuzzWhatABMCTellsStrangersBreaksNothing(f *testing.F) {
	f.Add([]byte{0x06, 0, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0x81, 0x1c, 0x63, 0x20, 0, 0x38, 0, 1, 0x84, 0x05, 2, 0, 0, 0, 0, 0x4b})
	f.Add([]byte{0x06, 0, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x81, 0x1c, 0x63, 0x20, 0, 0x54, 0, 1, 0xc0, 0, 0, 0x40, 0x80, 0x10})
	f.Add([]byte{0x06, 0, 0xff, 0x07, 0x06, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x00, 4, 0, 0xa4, 0xa3})
	f.Add([]byte{0x06, 0, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x81, 0x1c, 0x63, 0x20, 0, 0x38, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := look(stranger{&talker{b}})
		if err != nil && nameOf(err) == nil {
			t.Error("an error without a name")
		}
		if len(found) > 2 {
			t.Errorf("it has %v", found)
		}
		parseSuites(b)
	})
}

func TestDriversOfBMClibThatHaveNoInterruptAskNobody(t *testing.T) {
	for _, driver := range []fleet.BMCDriver{fleet.DriverASRockRack, fleet.DriverAMT} {
		l := &vendorLine{target: Target{Driver: driver}} // nobody is there
		if err := l.order(t.Context(), diagnose); !errors.Is(err, ErrUnsupported) {
			t.Errorf("an interrupt by %s: %v, want %v", driver, err, ErrUnsupported)
		}
	}
}

func TestArchitecturesAreReadAsServicesWriteThem(t *testing.T) {
	tests := map[string]struct {
		family, set text
		want        string
	}{
		"a server":                     {"x86", "x86-64", "amd64"},
		"an arm64 server":              {"ARM", "ARM-A64", "arm64"},
		"a family alone":               {"ARM", "", "arm64"},
		"a set alone":                  {"", "x86-64", "amd64"},
		"one of 32 bits":               {"ARM", "ARM-A32", ""},
		"one that we have nothing for": {"Power", "PowerISA", ""},
		"nothing":                      {"", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := archOf(tt.family, tt.set); got != tt.want {
				t.Errorf("archOf = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAGUIDIsWrittenAsTheFirmwareShowsIt(t *testing.T) {
	got := smbiosUUID([16]byte{0x77, 0x00, 0xb0, 0x7a, 0x34, 0x12, 0x00, 0x40, 0x80, 0x00, 0x52, 0x54, 0x00, 0x77, 0x00, 0x01})
	if want := "7ab00077-1234-4000-8000-525400770001"; got != want {
		t.Errorf("smbiosUUID = %s, want %s", got, want)
	}
}

func TestWhatIsQuotedInAnErrorIsLegible(t *testing.T) {
	said := fmt.Errorf("%w: power on (it can \x1b]0;pwned\a\u202e%s)", ErrUnsupported, strings.Repeat("x", 100_000))
	err := trouble("power on", Target{Node: "n1", Address: "10.0.0.1"}, said)
	if text := err.Error(); strings.ContainsAny(text, "\x1b\a\u202e") || len(text) > 600 {
		t.Errorf("the error is %d bytes: %.300q", len(text), text)
	}
	if !errors.Is(err, ErrUnsupported) || fleet.CodeOf(err) != fleet.CodeBMCUnsupported {
		t.Errorf("%.100v (%s) is not %v", err, fleet.CodeOf(err), ErrUnsupported)
	}
}

func TestMachinesAtOnePDUTalkOneByOneAndChangeAtOnce(t *testing.T) {
	c := New(Options{})
	one := Target{Driver: fleet.DriverPDU, Address: "10.0.9.2", Outlets: fleet.PDUOutlets{Model: "apc", Outlets: []int{1, 2}}}
	other := one
	other.Outlets.Outlets = []int{3, 4}
	if c.gate(one) != c.gate(other) {
		t.Error("two conversations are held with one PDU at the same time")
	}
	if one.changeKey() == other.changeKey() {
		t.Error("one machine waits until the other is on")
	}
}

func TestMachinesBehindOneBMCChangeAtOnceAndTheBMCAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		blade := func(system string) Target {
			return Target{Address: "10.0.9.4", Driver: fleet.DriverRedfish, System: "/redfish/v1/Systems/" + system}
		}
		whole := c.gate(blade("1"))
		// turn reports whether a change has its turn within a minute, and ends it.
		turn := func(g *gate) (end func(), ok bool) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			end, err := g.turn(ctx, whole)
			return end, err == nil
		}
		var ends []func()
		for i := range machinesAtOnce {
			end, ok := turn(c.gateOf(blade(fmt.Sprint(i)).changeKey()))
			if !ok {
				t.Fatalf("machine %d waits for others", i)
			}
			ends = append(ends, end)
		}
		if _, ok := turn(c.gateOf(blade("0").changeKey())); ok {
			t.Error("a machine is changed twice at the same time")
		}
		if _, ok := turn(c.gateOf(blade("another").changeKey())); ok {
			t.Errorf("more than %d machines are changed at the same time", machinesAtOnce)
		}
		for _, end := range ends {
			if _, ok := turn(whole); ok {
				t.Error("the BMC is changed beside a machine")
			}
			end()
		}
		end, ok := turn(whole)
		if !ok {
			t.Fatal("the BMC waits for nobody")
		}
		if _, ok := turn(c.gateOf(blade("1").changeKey())); ok {
			t.Error("a machine is changed beside the BMC")
		}
		end()
		if _, ok := turn(c.gateOf(blade("1").changeKey())); !ok {
			t.Error("a machine waits for nobody")
		}
	})
}

func TestTheWholeBMCWaitsForAMachineThatShutsDown(t *testing.T) {
	tests := map[string]struct {
		settle time.Duration // of a BMC that is known to be slow
		soft   time.Duration // how long the machine may take
		within time.Duration // who asks has no more time
		want   error
	}{
		"as long as a shutdown may take":        {0, 3 * time.Minute, time.Hour, nil},
		"as long as one of a slow BMC may take": {2 * time.Minute, 6 * time.Minute, time.Hour, nil},
		"and no longer":                         {0, 4 * time.Minute, time.Hour, ErrBusy},
		"nor longer than who asks":              {0, 3 * time.Minute, time.Minute, ErrBusy},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(Options{})
				blade := Target{
					Address: "10.0.9.4", Driver: fleet.DriverRedfish, System: "/redfish/v1/Systems/1", Quirks: fleet.BMCQuirks{Settle: tt.settle},
				}
				begun, over := make(chan struct{}), make(chan error)
				go func() {
					over <- c.change(t.Context(), "power soft", blade, func(ctx context.Context) error {
						close(begun)
						return pause(ctx, tt.soft)
					})
				}()
				<-begun
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				err := c.changeBMC(ctx, "change BMC password of", blade, func(context.Context) error { return nil })
				if !errors.Is(err, tt.want) || tt.want != nil && fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("the BMC's own change: %v, want %v", err, tt.want)
				}
				if err := <-over; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTheGateOfABMCThatNobodyAsksIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		at := func(host string) Target { return Target{Address: host} }
		busy, used := c.gate(at("10.0.0.1")), c.gate(at("10.0.0.2"))
		c.gate(at("10.0.0.3"))
		c.gate(at("10.0.0.4")).owned(7)
		if _, err := busy.turn(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
		if err := pause(t.Context(), idleAfter-time.Minute); err != nil {
			t.Fatal(err)
		}
		c.gate(at("10.0.0.2"))
		if err := pause(t.Context(), 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		c.gate(at("10.0.0.5"))
		if len(c.gates) != 4 || c.gate(at("10.0.0.1")) != busy || c.gate(at("10.0.0.2")) != used {
			t.Errorf("%d gates are left, want those that are in use, the console's, and the new one", len(c.gates))
		}
	})
}

func TestABMCHasOneGateHoweverItIsWritten(t *testing.T) {
	c := New(Options{})
	one := Target{Address: "10.0.0.4", Driver: fleet.DriverRedfish}
	for _, other := range []Target{
		{Address: "10.0.0.4:443", Driver: fleet.DriverRedfish}, {Address: "10.0.0.4", Ports: fleet.BMCPorts{IPMI: 623, HTTPS: 443}, Driver: fleet.DriverIPMI},
	} {
		if c.gate(one) != c.gate(other) {
			t.Errorf("%+v has a gate of its own", other)
		}
	}
}

func TestAnSSHConsoleThatTakesNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		hung := &sshConsole{stop: make(chan struct{}), hangUp: func() error { close(stuck); return nil }}
		err := hung.within(func() error {
			<-stuck
			return net.ErrClosed
		})
		if !errors.Is(err, ErrHangs) {
			t.Errorf("within = %v, want %v", err, ErrHangs)
		}
	})
}
