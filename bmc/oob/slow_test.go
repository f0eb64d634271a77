package oob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func (d *desk) change(f func(d *desk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

// raised returns the alarms that there are.
func (d *desk) raised() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.alarms)
}

// run has a watcher look until the result is called.
func run(t *testing.T, w *Watcher) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// One BMC takes its time for each answer. Another one that comes meanwhile is
// taken in before it.
func TestASlowBMCKeepsNoNewOneWaiting(t *testing.T) {
	w, d, _ := serve(t, redfish.Options{})
	w.Every = 10 * time.Millisecond
	w.BMCs = bmc.New(bmc.Options{Interval: time.Millisecond})
	fast := d.leases[0]
	fast.Expires = time.Now().Add(time.Hour)
	slow := fast
	slow.MAC, slow.Addr = "aa:bb:cc:00:00:66", netip.MustParseAddr("127.0.0.66")
	d.leases = []fleet.Lease{slow}
	s, err := redfish.Listen(t.Context(), net.JoinHostPort(slow.Addr.String(), strconv.Itoa(w.Ports.HTTPS)), redfish.New(redfish.Options{Faults: redfish.Faults{Delay: 2 * time.Second}}))
	if err != nil {
		t.Fatal(err)
	}
	end := run(t, w)
	defer func() {
		end()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	patience := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for came, first := false, fleet.MAC(""); first != fast.MAC; {
		select {
		case <-patience:
			t.Fatalf("nobody was taken in; the slow one was asked for %+v", s.Service.Counts())
		case <-tick.C:
		}
		d.change(func(d *desk) {
			if !came && s.Service.Counts().Requests > 0 {
				came, d.leases = true, append(d.leases, fast)
			}
			if len(d.adopted) > 0 {
				first = d.adopted[0].MAC
			}
		})
		if first == slow.MAC {
			t.Fatal("who came later was kept waiting")
		}
	}
}

// A crowd is BMCs that all take the time that they can get, and others that are
// none at all.
type crowd struct {
	BMCs
	mu         sync.Mutex
	busy, peak int
	met        map[string]time.Time
	quick      string // the address at which everybody is
}

func (c *crowd) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy += n
	c.peak = max(c.peak, c.busy)
}

func (c *crowd) Greet(ctx context.Context, t bmc.Target) (bmc.Sight, error) {
	if strings.HasPrefix(t.Node, "66:") && t.Address != c.quick {
		c.count(1)
		defer c.count(-1)
		<-ctx.Done()
		return bmc.Sight{}, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met[t.Node] = time.Now()
	return bmc.Sight{}, errors.New("nobody")
}

// crowded is a watcher of n BMCs that take all the time that they can get. They
// are there from the beginning.
func crowded(n int) (*Watcher, *desk, *crowd) {
	d := &desk{alarms: map[string]string{}, site: fleet.Site{Subnets: []fleet.Subnet{{Name: "bmcs", OOB: true}}}}
	for i := range n {
		d.leases = append(d.leases, leaseOf(fmt.Sprintf("66:00:00:00:00:%02x", i), byte(i)))
	}
	c := &crowd{met: map[string]time.Time{}}
	return &Watcher{Leases: d, Engine: d, BMCs: c, Log: slog.New(slog.DiscardHandler)}, d, c
}

// later lets time pass, and all that is to happen then.
func later(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time: synctest
	synctest.Wait()
}

func leaseOf(mac string, n byte) fleet.Lease {
	return fleet.Lease{MAC: fleet.MAC(mac), Addr: netip.AddrFrom4([4]byte{10, 77, 1, n}), Subnet: "bmcs", State: fleet.LeaseBound, Expires: time.Now().Add(1000 * time.Hour)}
}

func TestACrowdOfSlowBMCsKeepsNoNewOneWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, c := crowded(200)
		end := run(t, w)
		later(time.Hour) // each has been visited
		d.change(func(d *desk) { d.leases = append(d.leases, leaseOf("52:54:00:00:00:01", 250)) })
		came := time.Now()
		later(time.Minute)
		c.mu.Lock()
		if at := c.met["52:54:00:00:00:01"]; at.IsZero() || at.Sub(came) > 15*time.Second {
			t.Errorf("who came at %s was met at %s", came, at)
		}
		if c.peak != mostAtOnce || c.busy > mostSlow {
			t.Errorf("at most %d were visited at once, and the slow ones of them were %d in the end, want %d and at most %d", c.peak, c.busy, mostAtOnce, mostSlow)
		}
		c.mu.Unlock()
		if n := len(d.raised()); n != 200 {
			t.Errorf("there are %d alarms, want one for each that takes too long", n)
		}
		end()
	})
}

func TestWhoGoesWhileItIsVisitedLeavesNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, c := crowded(1)
		end := run(t, w)
		later(visitWithin + time.Second)
		alarms := d.raised()
		for _, detail := range alarms {
			if !strings.Contains(detail, visitWithin.String()) {
				t.Errorf("the alarm says %q", detail)
			}
		}
		if len(alarms) != 1 {
			t.Errorf("alarms are %v, want one", alarms)
		}
		later(2 * time.Minute) // it is being visited again
		c.mu.Lock()
		if c.busy != 1 {
			t.Errorf("%d are being visited, want one", c.busy)
		}
		c.mu.Unlock()
		d.change(func(d *desk) { d.leases = nil })
		later(visitWithin + time.Minute)
		end()
		if len(d.alarms) > 0 || len(w.seen) > 0 {
			t.Errorf("it is gone, and alarms are %v, remembered %d", d.alarms, len(w.seen))
		}
	})
}

// Who gets another address while its visit takes all the time that it can get is
// looked at there at once, and nothing is said of the visit that was in vain.
func TestWhoMovesIsNotWaitedForWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, c := crowded(1)
		c.quick = "10.77.1.9"
		end := run(t, w)
		later(20 * time.Second)
		if c.busy != 1 {
			t.Fatalf("%d are being visited, want one", c.busy)
		}
		d.change(func(d *desk) { d.leases = []fleet.Lease{leaseOf("66:00:00:00:00:00", 9)} })
		moved := time.Now()
		later(time.Minute)
		if at := c.met["66:00:00:00:00:00"]; at.IsZero() || at.Sub(moved) > 30*time.Second {
			t.Errorf("who moved at %s was met at %s", moved, at)
		}
		if g := w.seen["66:00:00:00:00:00"]; c.busy != 0 || g.slow || len(d.raised()) > 0 {
			t.Errorf("%d are being visited, slow: %t, alarms are %v; want none", c.busy, g.slow, d.raised())
		}
		d.change(func(d *desk) { d.leases = nil })
		later(time.Minute)
		end()
	})
}
