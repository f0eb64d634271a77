package bmc_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// silentPort is a port of UDP at which somebody listens and says nothing.
func silentPort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.LocalAddr().(*net.UDPAddr).Port
}

// referencePort is the port of a BMC that speaks IPMI, with the account of the
// service.
func referencePort(t *testing.T) int {
	t.Helper()
	target, _ := startReference(t)
	_, port, err := net.SplitHostPort(target.Address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is wrong with a BMC is named within 10 seconds when it is looked at first
// too, with the time-outs that a server has.
func TestWhatIsWrongIsNamedWithin10SecondsByAProbe(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 9 s for each fault, by the clock: make test runs it")
	}
	tests := map[string]struct {
		driver fleet.BMCDriver
		faults redfish.Faults
		ipmi   func(*testing.T) int
		want   error
	}{
		"a service that hangs, without IPMI":             {"", redfish.Faults{Hangs: true}, closedPort, bmc.ErrHangs},
		"a service that hangs, and IPMI is silent":       {"", redfish.Faults{Hangs: true}, silentPort, bmc.ErrHangs},
		"a service that does not read, without IPMI":     {"", redfish.Faults{Deaf: true}, closedPort, bmc.ErrHangs},
		"a service that does not read, IPMI is silent":   {"", redfish.Faults{Deaf: true}, silentPort, bmc.ErrHangs},
		"a service that answers by bytes, without IPMI":  {"", redfish.Faults{Garbage: redfish.Trickle}, closedPort, bmc.ErrHangs},
		"a service that answers late, without IPMI":      {"", redfish.Faults{Delay: 7 * time.Second}, closedPort, bmc.ErrSlow},
		"a service that answers late, and IPMI is quiet": {"", redfish.Faults{Delay: 7 * time.Second}, silentPort, bmc.ErrSlow},
		"a service that hangs beside IPMI":               {"", redfish.Faults{Hangs: true}, referencePort, nil},
		"a service that does not read beside IPMI":       {"", redfish.Faults{Deaf: true}, referencePort, nil},
		"a service that answers late beside IPMI":        {"", redfish.Faults{Delay: 7 * time.Second}, referencePort, nil},
		"a service that hangs":                           {fleet.DriverRedfish, redfish.Faults{Hangs: true}, closedPort, bmc.ErrHangs},
		"a service that answers late":                    {fleet.DriverRedfish, redfish.Faults{Delay: 7 * time.Second}, closedPort, bmc.ErrSlow},
		"a vendor's service that hangs":                  {fleet.DriverDell, redfish.Faults{Hangs: true}, closedPort, bmc.ErrHangs},
		"a vendor's service that answers late":           {fleet.DriverDell, redfish.Faults{Delay: 7 * time.Second}, closedPort, bmc.ErrSlow},
		"IPMI that is silent":                            {fleet.DriverIPMI, redfish.Faults{}, silentPort, bmc.ErrNoAnswer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := startRedfish(t, redfish.Options{Faults: tt.faults, Username: "admin", Password: referencePassword})
			target.Driver, target.Password, target.Ports.IPMI = tt.driver, referencePassword, tt.ipmi(t)
			began := time.Now()
			found, err := bmc.New(bmc.Options{Interval: time.Millisecond}).Probe(t.Context(), target)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			if tt.want == nil && (err != nil || found.Driver != fleet.DriverIPMI) {
				t.Errorf("Probe = %+v, %v, want it to speak IPMI", found, err)
			}
			if tt.want != nil && (!errors.Is(err, tt.want) || fleet.CodeOf(err) == "" || fleet.HintOf(err) == "") {
				t.Errorf("Probe = %+v, %v (%s), want %v", found, err, fleet.CodeOf(err), tt.want)
			}
		})
	}
}

// Where nothing answers at all, and where IPMI falls silent after a greeting.
func TestADeadBMCIsNamedWithin10SecondsByAProbe(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		heard int64 // datagrams, before there is silence
		want  error
	}{
		"a BMC without power":                    {0, bmc.ErrNoAnswer},
		"one that hangs when somebody signs in":  {2, bmc.ErrHangs},
		"one that hangs when somebody is inside": {5, bmc.ErrHangs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := startReference(t)
			target.Driver = ""
			var left atomic.Int64
			left.Store(tt.heard)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if network == "tcp" { // a way on which packets are lost
					<-ctx.Done()
					return nil, ctx.Err()
				}
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &falling{conn, &left}, err
			}})
			began := time.Now()
			_, err := c.Probe(t.Context(), target)
			if took := time.Since(began); took > 10*time.Second || !errors.Is(err, tt.want) {
				t.Errorf("Probe = %v after %s, want %v", err, took, tt.want)
			}
		})
	}
}

// One that is slow, and not too slow, is taken as it is.
func TestASlowServiceIsSpokenTo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Faults: redfish.Faults{Delay: 3 * time.Second}, Systems: []redfish.System{{Machine: m}}})
	target.Driver, target.Ports.IPMI = "", closedPort(t)
	c := bmc.New(bmc.Options{Interval: time.Millisecond})
	found, err := c.Probe(t.Context(), target)
	if err != nil || found.Driver != fleet.DriverRedfish {
		t.Fatalf("Probe = %+v, %v, want it to speak Redfish", found, err)
	}
	if err := c.PowerOn(t.Context(), found.Use(target)); err != nil || !m.IsOn() {
		t.Errorf("PowerOn = %v, it is on: %t", err, m.IsOn())
	}
	if got := s.Sessions(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
}
