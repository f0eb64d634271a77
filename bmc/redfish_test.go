package bmc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// startRedfish starts a service, and returns how it is spoken to before
// anybody has looked at it.
func startRedfish(t *testing.T, o redfish.Options) (bmc.Target, *redfish.Service) {
	t.Helper()
	s, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return bmc.Target{Node: "n1", Driver: fleet.DriverRedfish, Address: s.Addr(), Username: "admin", Password: "Secret123Secret1"}, s.Service
}

// probed returns the target as a probe has found it.
func probed(t *testing.T, target bmc.Target) bmc.Target {
	t.Helper()
	found, err := quick().Probe(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return found.Use(target)
}

func TestRedfishKeepsTheContract(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a minute on a busy machine")
	}
	variants := map[string]struct {
		id     string
		faults redfish.Faults
		basic  bool
	}{
		"with sessions only, iDRAC's": {"System.Embedded.1", redfish.Faults{NoBasic: true, Sessions: 2, NeedsETag: true}, false},
		"with Basic authentication":   {"437XR1138R2", redfish.Faults{BasicOnly: true, Strict: true}, true},
	}
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, func(t *testing.T) bmctest.Subject {
				m := &redfish.Memory{}
				target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: v.id, Machine: m}}, Faults: v.faults})
				return bmctest.Subject{
					Target: probed(t, target), On: m.IsOn,
					Found: bmc.Found{Driver: fleet.DriverRedfish, System: "/redfish/v1/Systems/" + v.id, BasicAuth: v.basic},
					NextBoot: func() string {
						b, _ := m.Boot(t.Context())
						return map[string]string{"Pxe": "pxe", "Hdd": "disk"}[b.Target]
					},
					SetFault: func(f bmctest.Fault) { s.SetFaults(redfishFault(v.faults, f)) },
					Started: func() {
						b, _ := m.Boot(t.Context())
						_ = m.SetBoot(t.Context(), b.After()) // memory does not fail
					},
				}
			})
		})
	}
}

func redfishFault(f redfish.Faults, fault bmctest.Fault) redfish.Faults {
	switch fault {
	case bmctest.Lying:
		f.Lying, f.LyingBoot = true, true
	case bmctest.Refusing:
		f.Error = true
	case bmctest.Slow:
		f.Slow, f.Transition = 2*time.Second, true
	case bmctest.Swallow:
		f.Swallow = 1
	case bmctest.None:
	}
	return f
}

func TestAProbeChoosesTheDriver(t *testing.T) {
	t.Parallel()
	web, _ := startRedfish(t, redfish.Options{})
	web.Driver = ""
	ipmi, _ := startReference(t)
	sim := startSim(t)
	tests := map[string]struct {
		target bmc.Target
		want   bmc.Found
	}{
		"Redfish first":           {web, bmc.Found{Driver: fleet.DriverRedfish, System: "/redfish/v1/Systems/1", BasicAuth: true}},
		"then IPMI with suite 17": {ipmi, bmc.Found{Driver: fleet.DriverIPMI, CipherSuite: 17}},
		"then IPMI with suite 3":  {sim, bmc.Found{Driver: fleet.DriverIPMI, CipherSuite: 3}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := quick().Probe(t.Context(), tt.target)
			if (tt.want.Driver == fleet.DriverRedfish) != (len(got.Pin) == 64) {
				t.Errorf("the certificate is %q", got.Pin)
			}
			tt.want.Pin, tt.want.Power = got.Pin, fleet.PowerIsOff
			if err != nil || got != tt.want {
				t.Errorf("Probe = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	target.Driver, target.Password = "", "Wr0ngPassw0rd"
	_, err := quick().Probe(t.Context(), target)
	if !errors.Is(err, bmc.ErrLogin) {
		t.Errorf("Probe = %v, want %v", err, bmc.ErrLogin)
	}
	if got := s.Counts().Refused; got != 1 {
		t.Errorf("the BMC refused %d logins, want 1", got)
	}
}

func TestOneOfSeveralSystemsIsFound(t *testing.T) {
	t.Parallel()
	blades := func() []redfish.System {
		return []redfish.System{{ID: "Blade1", Machine: &redfish.Memory{}}, {ID: "Blade2", Machine: &redfish.Memory{}}, {ID: "Blade3", Machine: &redfish.Memory{}}}
	}
	tests := map[string]struct {
		change func(*bmc.Target)
		want   string
	}{
		"by its UUID":   {func(b *bmc.Target) { b.UUID = "7AB00077-0000-4000-9000-000000000002" }, "Blade2"},
		"by its serial": {func(b *bmc.Target) { b.Serial = "RF7700003" }, "Blade3"},
		"by its name":   {func(b *bmc.Target) { b.System = "Blade1" }, "Blade1"},
		"by its path":   {func(b *bmc.Target) { b.System = "/redfish/v1/Systems/Blade2" }, "Blade2"},
		"not at all":    {func(*bmc.Target) {}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			systems := blades()
			target, _ := startRedfish(t, redfish.Options{Systems: systems})
			tt.change(&target)
			found, err := quick().Probe(t.Context(), target)
			if tt.want == "" {
				if !errors.Is(err, bmc.ErrSeveral) || fleet.HintOf(err) == "" {
					t.Errorf("Probe = %+v, %v, want %v", found, err, bmc.ErrSeveral)
				}
				return
			}
			if err != nil || found.System != "/redfish/v1/Systems/"+tt.want {
				t.Fatalf("Probe = %+v, %v, want %s", found, err, tt.want)
			}
			if err := quick().PowerOn(t.Context(), found.Use(target)); err != nil {
				t.Fatal(err)
			}
			for _, s := range systems {
				if on := s.Machine.(*redfish.Memory).IsOn(); on != (s.ID == tt.want) {
					t.Errorf("%s is on: %t", s.ID, on)
				}
			}
		})
	}
}

// A stuck machine does not follow its BMC.
type stuck struct {
	redfish.Memory
	ordered chan struct{}
	once    sync.Once
}

// Do implements redfish.Machine.
func (s *stuck) Do(context.Context, redfish.Switch) error {
	s.once.Do(func() { close(s.ordered) })
	return nil
}

// A blade that does not follow keeps none of the others waiting.
func TestBladesAreSwitchedAtTheSameTime(t *testing.T) {
	t.Parallel()
	good, bad := &redfish.Memory{}, &stuck{ordered: make(chan struct{})}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "Blade1", Machine: bad}, {ID: "Blade2", Machine: good}}})
	target.System = "Blade1"
	one := probed(t, target)
	other := one
	other.System = "/redfish/v1/Systems/Blade2"
	c := quick()
	over := make(chan error, 1)
	go func() { over <- c.PowerOn(t.Context(), one) }()
	<-bad.ordered
	if err := c.PowerCycle(t.Context(), other); err != nil || !good.IsOn() {
		t.Errorf("PowerCycle = %v, it is on: %t", err, good.IsOn())
	}
	select {
	case err := <-over:
		t.Errorf("the second came after the first: %v", err)
	default:
	}
	if err := <-over; !errors.Is(err, bmc.ErrNoEffect) {
		t.Errorf("PowerOn = %v, want %v", err, bmc.ErrNoEffect)
	}
}

func TestACertificateThatChangesIsRefused(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target = probed(t, target)
	other, err := redfish.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s.SetCertificate(other)
	before := s.Counts()
	err = quick().PowerOn(t.Context(), target)
	if !errors.Is(err, bmc.ErrPin) || fleet.CodeOf(err) != fleet.CodeBMCPin || fleet.KindOf(err) != fleet.Denied {
		t.Fatalf("PowerOn = %v (%s), want %v", err, fleet.CodeOf(err), bmc.ErrPin)
	}
	if _, err := quick().Probe(t.Context(), target); !errors.Is(err, bmc.ErrPin) {
		t.Errorf("Probe = %v, want %v", err, bmc.ErrPin)
	}
	if after := s.Counts(); m.IsOn() || after.Requests != before.Requests {
		t.Errorf("it was asked %d times all the same", after.Requests-before.Requests)
	}
	pin, ok := errors.AsType[*bmc.PinError](err)
	if !ok {
		t.Fatalf("%v does not tell the certificate", err)
	}
	target.Pin = pin.NewPin()
	if err := quick().PowerOn(t.Context(), target); err != nil {
		t.Errorf("with the certificate accepted: %v", err)
	}
}

func TestNothingIsSentToABMCThatNobodyHasLookedAt(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	err := quick().PowerOn(t.Context(), target)
	if !errors.Is(err, bmc.ErrNotProbed) || s.Counts().Requests > 0 {
		t.Errorf("PowerOn = %v after %d requests, want %v", err, s.Counts().Requests, bmc.ErrNotProbed)
	}
}

// faulty are services that fail, and how that is called.
var faulty = map[string]struct {
	faults redfish.Faults
	want   error
}{
	"a BMC that accepts and says nothing":      {redfish.Faults{Deaf: true}, bmc.ErrHangs},
	"a BMC that reads and says nothing":        {redfish.Faults{Hangs: true}, bmc.ErrHangs},
	"a BMC without a free session":             {redfish.Faults{Sessions: -1, NoBasic: true}, bmc.ErrSessions},
	"a BMC that sends us elsewhere":            {redfish.Faults{Redirect: "https://192.0.2.1/"}, bmc.ErrRejected},
	"a BMC that sends us round in circles":     {redfish.Faults{Redirect: "loop"}, bmc.ErrRejected},
	"a BMC that answers without an end":        {redfish.Faults{Garbage: redfish.Huge}, bmc.ErrRejected},
	"a BMC that nests without an end":          {redfish.Faults{Garbage: redfish.Deep}, bmc.ErrRejected},
	"a BMC that breaks off":                    {redfish.Faults{Garbage: redfish.Truncated}, bmc.ErrRejected},
	"a BMC that shows a login page":            {redfish.Faults{Garbage: redfish.HTML}, bmc.ErrRejected},
	"a BMC that answers after 7 seconds":       {redfish.Faults{Delay: 7 * time.Second}, bmc.ErrSlow},
	"a BMC that says nothing, at length":       {redfish.Faults{Garbage: redfish.Empty}, bmc.ErrRejected},
	"a BMC that mixes up all types":            {redfish.Faults{Garbage: redfish.Types}, bmc.ErrRejected},
	"a BMC that answers a byte at a time":      {redfish.Faults{Garbage: redfish.Trickle}, bmc.ErrHangs},
	"a BMC that sends headers without end":     {redfish.Faults{Garbage: redfish.Headers}, bmc.ErrRejected},
	"a BMC that has a million times itself":    {redfish.Faults{Garbage: redfish.Members}, bmc.ErrRejected},
	"a BMC whose orders all end with an error": {redfish.Faults{Error: true}, bmc.ErrRejected},
	"a BMC that says yes and does nothing":     {redfish.Faults{Lying: true}, bmc.ErrNoEffect},
}

func TestWhatIsWrongWithARedfishServiceIsNamedWithin10Seconds(t *testing.T) {
	t.Parallel()
	for name, tt := range faulty {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{})
			named(t, probed(t, target), s, tt.faults, tt.want)
		})
	}
}

// named brings a fault upon a service, and sees that it is called what it is.
func named(t *testing.T, target bmc.Target, s *redfish.Service, faults redfish.Faults, want error) {
	t.Helper()
	if faults.NoBasic {
		target.BasicAuth = false
	}
	if faults.Sessions < 0 { // all taken, by somebody else
		faults.Sessions = 1
		leak(t, target)
	}
	s.SetFaults(faults)
	o, within := bmc.Options{Interval: time.Millisecond}, 10*time.Second
	switch {
	case faults.Lying: // that shows when the time to settle is over, which is a minute
		o.Settle = 8 * time.Second
	case faults.Garbage == redfish.Huge: // its size ends it, however long a busy machine reads that much
		o.Timeout, o.Settle, within = generous, 2*generous, generous
	}
	c := bmc.New(o)
	began := time.Now()
	err := c.PowerOn(t.Context(), target)
	if !errors.Is(err, want) || fleet.CodeOf(err) == "" || fleet.HintOf(err) == "" {
		t.Errorf("PowerOn = %v (%s), want %v", err, fleet.CodeOf(err), want)
	}
	if took := time.Since(began); took > within {
		t.Errorf("it took %s", took)
	}
	if err != nil && (strings.Contains(fmt.Sprintf("%+v", err), string(target.Password)) || len(err.Error()) > 600) {
		t.Errorf("the error is %d bytes: %.700s", len(err.Error()), err)
	}
}

// leak takes a session and keeps it.
func leak(t *testing.T, target bmc.Target) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test's
	defer client.CloseIdleConnections()
	body := fmt.Sprintf(`{"UserName":%q,"Password":%q}`, target.Username, string(target.Password))
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+target.Address+"/redfish/v1/SessionService/Sessions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status)
	}
}

func TestNoSessionIsLeftBehind(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{Faults: redfish.Faults{NoBasic: true}})
	target = probed(t, target)
	c := quick()
	for range 3 {
		if err := c.PowerCycle(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	s.SetFaults(redfish.Faults{NoBasic: true, Error: true})
	_ = c.PowerOff(t.Context(), target)
	if got := s.Sessions(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
}

func TestACollectionIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	var blades []redfish.System
	var parts []string
	for i := range 100 {
		blades = append(blades, redfish.System{ID: fmt.Sprintf("Blade%d", i), Machine: &redfish.Memory{}})
		parts = append(parts, fmt.Sprintf("Drive%d", i))
	}
	target, _ := startRedfish(t, redfish.Options{Systems: blades, Parts: parts, Faults: redfish.Faults{Page: 40}})
	target.System = "Blade97"
	target = probed(t, target)
	if want := "/redfish/v1/Systems/Blade97"; target.System != want {
		t.Errorf("the system is %s, want %s", target.System, want)
	}
	got, err := quick().Examine(t.Context(), target, true)
	firmware := map[string]bool{}
	for _, f := range got.Hardware.Firmware {
		firmware[f.ID] = true
	}
	if err != nil || !firmware["Drive97"] {
		t.Errorf("Examine = %v, with the firmware of %d components", err, len(firmware))
	}
	job := newJob("Drive97", "https://10.0.0.1/drive-2.0.bin")
	if err := following().Update(t.Context(), target, job, new(ledger).keep, nobody); err != nil {
		t.Errorf("Update = %v", err)
	}
}

// A conversation that is given up while it dials is no race: go test -race.
func TestAConversationIsGivenUpWhileItDials(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			go cancel()
			return new(net.Dialer).DialContext(context.WithoutCancel(ctx), network, address)
		}})
		if _, err := c.Power(ctx, target); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Power = %v", err)
		}
		cancel()
	}
}

func TestASessionThatSaysInItsBodyWhereItIsIsEnded(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{Faults: redfish.Faults{NoBasic: true, NoLocation: true}})
	target = probed(t, target)
	if _, err := quick().Power(t.Context(), target); err != nil {
		t.Error(err)
	}
	if got := s.Sessions(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
}

func TestAServiceWithOldTLSIsSpokenTo(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{Faults: redfish.Faults{OldTLS: true}})
	if err := quick().PowerOn(t.Context(), probed(t, target)); err != nil {
		t.Error(err)
	}
}
