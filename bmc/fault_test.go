package bmc_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A falling line falls silent after so many datagrams.
type falling struct {
	net.Conn
	left *atomic.Int64
}

func (f *falling) Read(b []byte) (int, error) {
	if f.left.Add(-1) < 0 {
		for { // takes what comes, until the deadline
			if _, err := f.Conn.Read(b); err != nil {
				return 0, err
			}
		}
	}
	return f.Conn.Read(b)
}

func TestABMCThatFallsSilentIsToldFromOneThatIsNotThere(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		heard int64
		want  error
	}{
		"before its first word":   {0, bmc.ErrNoAnswer},
		"after it was greeted":    {1, bmc.ErrHangs},
		"while we sign in":        {3, bmc.ErrHangs},
		"after we have signed in": {5, bmc.ErrHangs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := startReference(t)
			var left atomic.Int64
			left.Store(tt.heard)
			c := bmc.New(bmc.Options{Timeout: 6 * time.Second, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &falling{conn, &left}, err
			}})
			began := time.Now()
			_, err := c.Power(t.Context(), target)
			if !errors.Is(err, tt.want) {
				t.Errorf("Power = %v, want %v", err, tt.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestDeadBMCsKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	dead, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	deaf, s := startRedfish(t, redfish.Options{})
	deaf = probed(t, deaf)
	s.SetFaults(redfish.Faults{Deaf: true})
	live, _ := startReference(t)
	c := bmc.New(bmc.Options{Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 20 {
		for _, target := range []bmc.Target{deaf, {Address: dead.LocalAddr().String(), Username: "admin", Password: "secret"}} {
			wg.Go(func() { _, _ = c.Power(ctx, target) })
		}
	}
	for range 20 {
		began := time.Now()
		if _, err := c.Power(t.Context(), live); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("one that lives took %s", took)
		}
	}
	cancel()
	wg.Wait()
}

func TestBootByIPMIIsAQuirkOfRedfish(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, _ := startRedfish(t, redfish.Options{Username: "admin", Password: referencePassword, Systems: []redfish.System{{Machine: m}}})
	target.Password = referencePassword
	target = probed(t, target)
	ipmi, hardware := startReference(t)
	_, port, err := net.SplitHostPort(ipmi.Address)
	if err != nil {
		t.Fatal(err)
	}
	target.Ports.IPMI, err = net.DefaultResolver.LookupPort(t.Context(), "udp", port)
	if err != nil {
		t.Fatal(err)
	}
	target.Quirks = fleet.BMCQuirks{BootByIPMI: true}
	if err := quick().SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.PXE, Once: true}); err != nil {
		t.Fatal(err)
	}
	if got := nextBootOf(t, hardware); got != "pxe" {
		t.Errorf("IPMI has %q, want pxe", got)
	}
	if got, _ := m.Boot(t.Context()); got != redfish.NoOverride {
		t.Errorf("Redfish has %+v", got)
	}
}
