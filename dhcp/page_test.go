package dhcp

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// bigBook has leases of that many machines in 10.1.0.0 and on.
func bigBook(tb testing.TB, leases int) *testServer {
	tb.Helper()
	n := rackSubnet(fleet.Full)
	n.CIDR = netip.MustParsePrefix("10.0.0.0/8")
	n.Ranges[0] = fleet.AddrRange{First: netip.MustParseAddr("10.1.0.0"), Last: netip.MustParseAddr("10.99.255.255")}
	ts := newTestServer(tb, n)
	for i := range uint32(leases) {
		ts.book.load(bigLease(ts, i), true)
	}
	return ts
}

func bigLease(ts *testServer, i uint32) fleet.Lease {
	mac := hwaddr{0x52, 0x54, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
	addr := (&place{ip: 10<<24 | 1<<16 + i}).addr()
	return fleet.Lease{Addr: addr, MAC: macOf(mac), ClientID: mac.id(), Subnet: "rack", State: fleet.LeaseBound, Expires: ts.clock.Add(time.Hour)}
}

func TestAPageOfLeasesCostsTheSameHoweverManyThereAre(t *testing.T) {
	allocs := map[int]float64{}
	for _, leases := range []int{1_000, 100_000} {
		ts := bigBook(t, leases)
		after := bigLease(ts, uint32(leases/2)).Addr
		allocs[leases] = testing.AllocsPerRun(10, func() {
			if page := ts.Leases("", after, 101); len(page) != 101 || page[0].Addr != after.Next() {
				t.Fatalf("a page of %d leases begins with %v, want 101 from %s", len(page), page[:min(1, len(page))], after.Next())
			}
		})
	}
	if allocs[100_000] > allocs[1_000] {
		t.Errorf("a page of 100,000 leases takes %.0f allocations, one of 1,000 takes %.0f", allocs[100_000], allocs[1_000])
	}
}

func BenchmarkPageOfLeases(b *testing.B) {
	for name, leases := range map[string]int{"1000": 1_000, "1000000": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			ts := bigBook(b, leases)
			after := bigLease(ts, uint32(leases/2)).Addr
			b.ReportAllocs()
			for b.Loop() {
				if page := ts.Leases("", after, 101); len(page) != 101 {
					b.Fatalf("a page has %d leases", len(page))
				}
			}
		})
	}
}

// Subnets that share eight bits, and one with nothing, between others.
func TestPagesGoFromSubnetToSubnet(t *testing.T) {
	small := func(name, cidr, first, last string) fleet.Subnet {
		n := rackSubnet(fleet.Full)
		n.Name, n.CIDR, n.Router = name, netip.MustParsePrefix(cidr), netip.Addr{}
		n.Ranges = []fleet.AddrRange{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}}
		return n
	}
	ts := newTestServer(t, rackSubnet(fleet.Full), small("a", "10.88.0.0/28", "10.88.0.2", "10.88.0.14"),
		small("none", "10.88.0.16/28", "10.88.0.18", "10.88.0.20"), small("b", "10.88.0.32/28", "10.88.0.34", "10.88.0.40"),
		small("last", "255.255.255.0/24", "255.255.255.4", "255.255.255.254"))
	ends := ts.clock.Add(time.Hour)
	want := []string{"10.77.0.100", "10.88.0.3", "10.88.0.14", "10.88.0.34", "10.88.0.40", "255.255.255.254"}
	for i, a := range want {
		l := lease(a, macOf(hwaddr{2, 0, 0, 0, 0, byte(i + 1)}), ends)
		l.State = fleet.LeaseBound
		ts.book.load(l, true)
	}
	ended := lease("10.88.0.4", "02:00:00:00:00:77", ts.clock)
	ended.State = fleet.LeaseBound
	released := lease("10.88.0.5", "02:00:00:00:00:78", ends)
	released.State = fleet.LeaseReleased
	aside := lease("10.88.0.6", "", ends)
	aside.State = fleet.LeaseDeclined
	for _, l := range []fleet.Lease{ended, released, aside} {
		ts.book.load(l, true)
	}
	tests := map[string]struct {
		subnet, after string
		limit         int
		want          []string
	}{
		"all":                    {"", "", 10, []string{want[0], want[1], "10.88.0.6", want[2], want[3], want[4], want[5]}},
		"a subnet":               {"b", "", 10, want[3:5]},
		"what follows one":       {"", want[2], 2, want[3:5]},
		"what follows none":      {"", "10.88.0.15", 2, want[3:5]},
		"after the last address": {"", "255.255.255.255", 2, nil},
		"after the last lease":   {"", want[5], 2, nil},
		"after those of IPv6":    {"", "fd00::1", 2, nil},
		"an unknown subnet":      {"c", "", 2, nil},
		"nothing":                {"", "", 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			after, _ := netip.ParseAddr(tt.after)
			got := ts.Leases(tt.subnet, after, tt.limit)
			if len(got) != len(tt.want) {
				t.Fatalf("Leases = %+v, want %q", got, tt.want)
			}
			for i, l := range got {
				if l.Addr.String() != tt.want[i] {
					t.Errorf("lease %d is of %s, want %s", i, l.Addr, tt.want[i])
				}
			}
		})
	}
}

// Leases come and go, and networks are declared anew, while somebody turns the
// pages: who has a lease all the time is seen once.
func TestPagesHaveEveryLeaseOnceWhileOthersChange(t *testing.T) {
	const leases = 4_000
	ts := bigBook(t, leases)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		nets := ts.nets.Load().sorted
		for i := uint32(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			l := bigLease(ts, leases+i%leases)
			ts.book.load(l, true)
			if i%3 == 0 {
				l.State = fleet.LeaseReleased
				ts.book.load(l, true)
			}
			if i%500 == 0 {
				ts.book.configure(nets, nil, func() {})
			}
		}
	})
	defer others.Wait()
	defer close(stop)
	for range 5 {
		times := map[netip.Addr]int{}
		for after := (netip.Addr{}); ; {
			page := ts.Leases("rack", after, 97)
			for _, l := range page {
				if times[l.Addr]++; after.IsValid() && !after.Less(l.Addr) {
					t.Fatalf("%s comes after %s", l.Addr, after)
				}
				after = l.Addr
			}
			if len(page) < 97 {
				break
			}
		}
		for i := range uint32(leases) {
			if a := bigLease(ts, i).Addr; times[a] != 1 {
				t.Fatalf("%s is on %d pages", a, times[a])
			}
		}
	}
}

// all returns every lease that there is, in no order, those too that have ended.
func (b *book) all() (leases []fleet.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.ledgers {
		for p := range l.byAddr.places() {
			if p.lease.state != noLease {
				leases = append(leases, l.lease(p))
			}
		}
	}
	return leases
}
