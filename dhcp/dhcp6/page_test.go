package dhcp6

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func bigLease(i int) fleet.Lease6 {
	n := uint64(i) * 0x9e3779b97f4a7c15 >> 20 // strewn, and no two alike
	return fleet.Lease6{
		Addr: add(netip.MustParseAddr("fd98::"), n), Subnet: "rack6", DUID: fmt.Sprintf("00030001%012x", i), IAID: 1,
		MAC: fleet.MAC(fmt.Sprintf("52:54:00:%02x:%02x:%02x", byte(i>>16), byte(i>>8), byte(i))), State: fleet.LeaseBound, Expires: start.Add(time.Hour),
	}
}

func bigBook(leases int) *book {
	b := newBook(func() time.Time { return start })
	b.ledgers = []*ledger{newLedger(remote6(), nil), newLedger(rack6(), nil)}
	for i := range leases {
		b.load(bigLease(i), true)
	}
	return b
}

func TestAPageOfLeasesCostsTheSameHoweverManyThereAre(t *testing.T) {
	allocs := map[int]float64{}
	for _, leases := range []int{1_000, 100_000} {
		b := bigBook(leases)
		allocs[leases] = testing.AllocsPerRun(10, func() {
			if page := b.page("", netip.MustParseAddr("fd98::1"), 101); len(page) != 101 {
				t.Fatalf("a page has %d leases", len(page))
			}
		})
	}
	if allocs[100_000] > allocs[1_000] {
		t.Errorf("a page of 100,000 leases takes %.0f allocations, one of 1,000 takes %.0f", allocs[100_000], allocs[1_000])
	}
}

func BenchmarkPageOfLeases(b *testing.B) {
	for _, leases := range []int{1_000, 200_000} {
		b.Run(fmt.Sprint(leases), func(b *testing.B) {
			big := bigBook(leases)
			b.ReportAllocs()
			for b.Loop() {
				if page := big.page("", netip.MustParseAddr("fd98::1"), 101); len(page) != 101 {
					b.Fatalf("a page has %d leases", len(page))
				}
			}
		})
	}
}

// Leases come and go while somebody turns the pages: who has one all the time is
// seen once.
func TestPagesHaveEveryLeaseOnceWhileOthersChange(t *testing.T) {
	const leases = 3_000
	b := bigBook(leases)
	far := bigLease(leases + leases)
	far.Addr, far.Subnet = netip.MustParseAddr("fd99::1000"), "remote6"
	b.load(far, true)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			l := bigLease(leases + i%leases)
			b.load(l, true)
			if i%3 == 0 {
				l.State = fleet.LeaseReleased
				b.load(l, true)
			}
		}
	})
	defer others.Wait()
	defer close(stop)
	for range 3 {
		times := map[netip.Addr]int{}
		for after := netip.MustParseAddr("10.0.0.1"); ; {
			page := b.page("", after, 97)
			for _, l := range page {
				if times[l.Addr]++; !after.Less(l.Addr) {
					t.Fatalf("%s comes after %s", l.Addr, after)
				}
				after = l.Addr
			}
			if len(page) < 97 {
				break
			}
		}
		for i := range leases {
			if a := bigLease(i).Addr; times[a] != 1 {
				t.Fatalf("%s is on %d pages", a, times[a])
			}
		}
		if times[far.Addr] != 1 {
			t.Errorf("the lease of the other subnet is on %d pages", times[far.Addr])
		}
	}
}

func TestAnOrderIsThatOfAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var o order
	has := map[netip.Addr]bool{}
	for range 20_000 {
		a := add(netip.MustParseAddr("fd98::"), uint64(random.IntN(5_000)))
		if random.IntN(3) == 0 {
			o.remove(a)
			delete(has, a)
			continue
		}
		o.add(a)
		has[a] = true
	}
	var want, got []netip.Addr
	for a := range has {
		want = append(want, a)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	for at := netip.IPv6Unspecified(); ; {
		some := o.from(at)
		if len(some) == 0 {
			break
		}
		if len(some) > longestRow {
			t.Fatalf("%d addresses in a row", len(some))
		}
		got, at = append(got, some...), some[len(some)-1].Next()
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d addresses in order, want %d: %v", len(got), len(want), got[:min(9, len(got))])
	}
}
