package bmc_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestAVendorsDriverSwitchesAndTheStandardBoots(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1", Machine: m, Facts: redfish.Facts{Vendor: "Dell Inc."}}}})
	target.Driver = fleet.DriverDell
	target = probed(t, target)
	if target.Driver != fleet.DriverDell || target.Pin == "" || target.System != "/redfish/v1/Systems/System.Embedded.1" {
		t.Fatalf("probed is %+v", target)
	}
	c := quick()
	for op, want := range map[fleet.PowerOp]bool{fleet.PowerOn: true, fleet.PowerReset: true, fleet.PowerSoft: false} {
		if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Switch(t.Context(), target, op); err != nil || m.IsOn() != want {
			t.Errorf("power %s: %v; it is on: %t", op, err, m.IsOn())
		}
	}
	if err := c.SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.PXE, Once: true}); err != nil {
		t.Error(err)
	}
	if got, _ := m.Boot(t.Context()); got.Target != "Pxe" || got.Mode != "UEFI" {
		t.Errorf("it would boot %+v", got)
	}
	if got := s.Sessions(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
}

func TestAVendorsDriverNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		vendor string
		change func(*testing.T, *bmc.Target, *redfish.Service)
		want   error
	}{
		"a BMC of another vendor": {"Contoso", func(*testing.T, *bmc.Target, *redfish.Service) {}, bmc.ErrUnsupported},
		"a wrong password":        {"Dell Inc.", func(_ *testing.T, b *bmc.Target, _ *redfish.Service) { b.Password = "Wr0ngPassw0rd" }, bmc.ErrLogin},
		"another certificate": {"Dell Inc.", func(t *testing.T, _ *bmc.Target, s *redfish.Service) {
			t.Helper()
			other, err := redfish.Certificate("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			s.SetCertificate(other)
		}, bmc.ErrPin},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{Vendor: tt.vendor}}}})
			target = probed(t, target) // as plain Redfish
			target.Driver = fleet.DriverDell
			tt.change(t, &target, s)
			if _, err := quick().Power(t.Context(), target); !errors.Is(err, tt.want) || fleet.HintOf(err) == "" {
				t.Errorf("Power = %v, want %v", err, tt.want)
			}
		})
	}
}

// dell is a service that bmclib's driver for Dell takes for one of theirs.
func dell(t *testing.T) (bmc.Target, *redfish.Service) {
	t.Helper()
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1", Facts: redfish.Facts{Vendor: "Dell Inc."}}}})
	target.Driver = fleet.DriverDell
	return probed(t, target), s
}

func TestWhatIsWrongBelowAVendorsDriverIsNamedWithin10Seconds(t *testing.T) {
	t.Parallel()
	for name, tt := range faulty {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := dell(t)
			named(t, target, s, tt.faults, tt.want)
		})
	}
}

// A login that is sent on to where everybody can read it is not repeated there.
func TestAVendorsDriverIsNotLedAstray(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	target, s := dell(t)
	s.SetFaults(redfish.Faults{Redirect: "http://" + target.Address + "/"})
	at := strings.TrimPrefix(other.URL, "http://")
	c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if asked.Add(1) > 1 { // the first is the BMC, and whatever comes then is not
			address = at
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	if _, err := c.Power(t.Context(), target); !errors.Is(err, bmc.ErrRejected) {
		t.Errorf("Power = %v, want %v", err, bmc.ErrRejected)
	}
	if got := asked.Load(); got != 1 {
		t.Errorf("it was dialled or asked %d times, want once", got)
	}
}

// An answer without an end takes no more memory than one that we read to its
// end.
func TestAVendorsDriverReadsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	target, s := dell(t)
	s.SetFaults(redfish.Faults{Garbage: redfish.Huge})
	var heard atomic.Int64
	c := bmc.New(bmc.Options{Interval: time.Millisecond, Timeout: generous, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return counted{conn, &heard}, err
	}})
	if _, err := c.Power(t.Context(), target); !errors.Is(err, bmc.ErrRejected) {
		t.Errorf("Power = %v, want %v", err, bmc.ErrRejected)
	}
	if got, most := heard.Load(), int64(8<<20); got > most {
		t.Errorf("it read %d bytes, want at most %d", got, most)
	}
}

// A counted connection counts what is read from it.
type counted struct {
	net.Conn
	heard *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.heard.Add(int64(n))
	return n, err
}

func TestAMTIsSpokenToAtThePortOfItsAddress(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer s.Close()
	target := bmc.Target{Node: "n1", Driver: fleet.DriverAMT, Address: strings.TrimPrefix(s.URL, "http://"), Username: "admin", Password: "secret"}
	if _, err := quick().Power(t.Context(), target); err == nil {
		t.Error("a server that knows nothing shows the power")
	}
	if asked.Load() == 0 {
		t.Error("it was asked nothing")
	}
}

func TestSupermicroIsSpokenToWithItsCertificateAlone(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
	target.Driver = fleet.DriverSupermicro
	target = probed(t, target)
	if target.Driver != fleet.DriverSupermicro || target.Pin == "" {
		t.Errorf("probed is %+v", target)
	}
	if err := quick().PowerOn(t.Context(), target); err != nil || !m.IsOn() {
		t.Errorf("PowerOn = %v; it is on: %t", err, m.IsOn())
	}
	other, err := redfish.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s.SetCertificate(other)
	before := s.Counts().Requests
	if err := quick().PowerOff(t.Context(), target); !errors.Is(err, bmc.ErrPin) {
		t.Errorf("PowerOff = %v, want %v", err, bmc.ErrPin)
	}
	if after := s.Counts().Requests; after != before {
		t.Errorf("it was asked %d times all the same", after-before)
	}
}
