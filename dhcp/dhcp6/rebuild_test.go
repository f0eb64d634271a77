package dhcp6

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// crowded6 is a book with so many leases on a subnet.
func crowded6(leases int) (*book, fleet.Subnet) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::ffff:ffff")
	b := newBook(time.Now)
	b.configure([]fleet.Subnet{n}, nil, func() {})
	a := n.Ranges[0].First
	for i := range leases {
		b.load(fleet.Lease6{Addr: a, Subnet: n.Name, DUID: duidNo(i), MAC: crowdMAC(i), State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}, i%2 == 0)
		a = a.Next()
	}
	return b, n
}

func crowdMAC(i int) fleet.MAC {
	return fleet.MAC(fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", byte(i>>24), byte(i>>16), byte(i>>8), byte(i))) //nolint:gosec // cut off
}

func duidNo(i int) string { return fmt.Sprintf("0004%032x", i) }

// exchange lets a client get an address; invalid when there is none for it.
func exchange(b *book, n fleet.Subnet, c client) netip.Addr {
	lease, ok := b.take(n, c, nil, netip.Addr{}, time.Hour)
	if !ok {
		return netip.Addr{}
	}
	b.stored([]fleet.Lease6{lease}, true)
	return lease.Addr
}

func known6(i int) client { return client{duid: duidNo(i), mac: crowdMAC(i), known: true} }

func TestClientsOfIPv6AreAnsweredWhileNetworksChange(t *testing.T) {
	b, n := crowded6(50_000)
	var done atomic.Bool
	answered, started := make(chan int), make(chan bool)
	go func() {
		count := 0
		for i := 0; !done.Load(); i++ {
			if exchange(b, n, known6(1<<20+i)).IsValid() {
				count++
			}
			if i == 0 {
				close(started)
			}
		}
		answered <- count
	}()
	<-started
	larger := n
	larger.CIDR = netip.MustParsePrefix("fd98::/48")
	b.configure([]fleet.Subnet{larger}, nil, func() {})
	done.Store(true)
	given := <-answered
	if given < 50 {
		t.Errorf("%d clients got addresses meanwhile, want many", given)
	}
	if got := len(b.ledgers[0].byAddr); got != 50_000+given {
		t.Errorf("%d leases are known, want %d", got, 50_000+given)
	}
}

// Where the addresses of a network stay, no place is touched.
func TestOtherRangesOfIPv6KeepTheLedger(t *testing.T) {
	b, n := crowded6(1000)
	was := b.ledgers[0]
	first := was.byAddr[n.Ranges[0].First]
	n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: netip.MustParseAddr("fd98::11ff")}}
	n.Reservations = []fleet.Reservation{{MAC: crowdMAC(7), Addr: netip.MustParseAddr("fd98::2000")}}
	b.configure([]fleet.Subnet{n}, map[netip.Addr]bool{netip.MustParseAddr("fd98::1100"): true}, func() {})
	l := b.ledgers[0]
	if l != was || l.byAddr[n.Ranges[0].First] != first || len(l.byAddr) != 1000 {
		t.Error("the ledger was made anew")
	}
	if want := newLedger(n, map[netip.Addr]bool{netip.MustParseAddr("fd98::1100"): true}); l.use.size != want.use.size {
		t.Errorf("%d addresses can be given, want %d", l.use.size, want.use.size)
	}
	if got := exchange(b, n, known6(7)); got != n.Reservations[0].Addr {
		t.Errorf("it got %s, want what is reserved for it", got)
	}
}

// Whatever happens while ledgers are copied, the new ones know it.
func TestANewLedgerOfIPv6KnowsWhatTheOldOneDoes(t *testing.T) {
	b, n := crowded6(1000)
	larger := n
	larger.CIDR = netip.MustParsePrefix("fd98::/48")
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	old, next := b.ledgers[0], newLedger(larger, nil)
	r := b.rebuild([]*ledger{old}, []*ledger{next})
	for range 20 {
		for range 100 {
			happen(b, n, random)
		}
		if random.IntN(2) == 0 {
			r.run()
		} else {
			r.catchUp()
		}
	}
	r.run()
	for range 100 {
		happen(b, n, random)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.finish()
	if len(old.byAddr) < 1000 || len(old.byAddr) != len(next.byAddr) || len(old.byIA) != len(next.byIA) || len(old.byMachine) != len(next.byMachine) {
		t.Errorf("the new ledger has %d places, %d associations and %d machines; the old one %d, %d and %d",
			len(next.byAddr), len(next.byIA), len(next.byMachine), len(old.byAddr), len(old.byIA), len(old.byMachine))
	}
	for a := range old.byAddr {
		if got, want := next.copyOf(a), old.copyOf(a); got != want {
			t.Fatalf("%s: %+v, want %+v", a, got, want)
		}
	}
}

// happen does to a book what a client or an operator may do.
func happen(b *book, n fleet.Subnet, random *rand.Rand) {
	c := known6(random.IntN(1200))
	c.iaid, c.known = uint32(random.IntN(2)), random.IntN(2) == 0
	var held netip.Addr
	if l, ok := b.lease(n, c); ok {
		held = l.Addr
	}
	switch random.IntN(6) {
	case 0, 1:
		exchange(b, n, c)
	case 2:
		_, _ = b.offer(n, c, nil, netip.Addr{})
	case 3:
		_, _ = b.take(n, c, nil, netip.Addr{}, time.Hour) // on its way to the disk
	case 4:
		if lease, ok := b.giveUp(c, held, []fleet.LeaseState{fleet.LeaseReleased, fleet.LeaseDeclined}[random.IntN(2)]); ok {
			b.stored([]fleet.Lease6{lease}, random.IntN(4) > 0)
		}
	case 5:
		b.correct(fleet.Lease6{Addr: n.Ranges[0].First, DUID: c.duid, MAC: c.mac, Subnet: n.Name, State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}, true)
	}
}

func TestNothingOfIPv6IsForgottenWhenNetworksComeAndGo(t *testing.T) {
	left, right, both := rack6(), rack6(), rack6()
	right.CIDR, right.Name, both.CIDR, both.Name = netip.MustParsePrefix("fd98:0:0:1::/64"), "right", netip.MustParsePrefix("fd98::/63"), "both"
	right.Ranges = []fleet.AddrRange{{First: netip.MustParseAddr("fd98:0:0:1::1000"), Last: netip.MustParseAddr("fd98:0:0:1::1fff")}}
	both.Ranges = []fleet.AddrRange{left.Ranges[0], right.Ranges[0]}
	b := newBook(time.Now)
	declare := func(subnets ...fleet.Subnet) { b.configure(subnets, nil, func() {}) }
	has := func(when string, c client, want ...netip.Addr) {
		t.Helper()
		for _, a := range want {
			if l, ok := b.leaseByAddr(a); !ok || clientOf(l).key() != c.key() {
				t.Errorf("%s %s is of %+v, want %s", when, a, l, c.mac)
			}
		}
	}
	declare(left, right)
	one, two := exchange(b, left, known6(1)), exchange(b, right, known6(2))
	twice := [2]netip.Addr{exchange(b, left, known6(3)), exchange(b, right, known6(3))}
	later, _ := b.leaseByAddr(twice[1])
	later.Expires = later.Expires.Add(time.Hour)
	b.stored([]fleet.Lease6{later}, true)
	declare(left)
	has("with half of them", known6(1), one)
	if _, ok := b.leaseByAddr(two); ok || len(b.orphans) != 2 {
		t.Errorf("%d leases are in no network, want 2", len(b.orphans))
	}
	declare(both)
	has("as one network", known6(1), one)
	has("as one network", known6(2), two)
	has("as one network", known6(3), twice[1])
	if l, ok := b.leaseByAddr(twice[0]); ok || len(b.orphans) != 0 {
		t.Errorf("%+v is still held, %d leases in no network", l, len(b.orphans))
	}
	if got := exchange(b, both, known6(3)); got != twice[1] {
		t.Errorf("it got %s, want the address that it has, %s", got, twice[1])
	}
	declare()
	declare(right, left)
	has("as two networks again", known6(1), one)
	has("as two networks again", known6(2), two)
	has("as two networks again", known6(3), twice[1])
}
