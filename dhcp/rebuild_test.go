package dhcp

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// crowdedBook has a subnet with so many leases.
func crowdedBook(leases int) (b *book, n fleet.Subnet) {
	n = wideSubnet()
	b = newBook(time.Now)
	b.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	a, expires := n.Ranges[0].First, time.Now().Add(time.Hour)
	for i := range leases {
		b.load(fleet.Lease{Addr: a, Subnet: n.Name, MAC: crowdMAC(i), State: fleet.LeaseBound, Expires: expires}, i%2 == 0)
		a = a.Next()
	}
	return b, n
}

func crowdMAC(i int) fleet.MAC {
	return macOf(hwaddr{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}) //nolint:gosec // fewer
}

// exchange lets a client get an address; invalid when there is none for it.
func exchange(b *book, mac hwaddr) netip.Addr {
	n := b.network()
	c := &client{mac: mac, known: true}
	got, why := b.offer(n, c, netip.Addr{})
	if why != served {
		return netip.Addr{}
	}
	lease := fleet.Lease{Addr: got.addr, Subnet: n.Name, MAC: macOf(mac), State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}
	if _, ok := b.take(c, lease); !ok {
		return netip.Addr{}
	}
	b.stored([]fleet.Lease{lease}, true)
	return got.addr
}

// network is the only one.
func (b *book) network() *network {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledgers[0].net
}

// While a ledger of very many leases is built anew, clients are answered, one
// after the other: not just before and after.
func TestClientsAreAnsweredWhileRangesChange(t *testing.T) {
	b, n := crowdedBook(50_000)
	var done atomic.Bool
	answered := make(chan int)
	started := make(chan bool)
	go func() {
		count := 0
		for i := 0; !done.Load(); i++ {
			if exchange(b, hwaddr{4, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}).IsValid() { //nolint:gosec // cut off
				count++
			}
			if i == 0 {
				close(started)
			}
		}
		answered <- count
	}()
	<-started
	n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: n.Ranges[0].Last.Prev()}}
	b.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	done.Store(true)
	if got := <-answered; got < 100 {
		t.Errorf("%d clients got addresses meanwhile, want hundreds", got)
	}
	if got := b.network().Ranges[0].Last; got != n.Ranges[0].Last {
		t.Errorf("the range ends at %s, want %s", got, n.Ranges[0].Last)
	}
}

// The book is not locked for longer than one block of places takes.
func TestALedgerIsCopiedInSmallSteps(t *testing.T) {
	b, n := crowdedBook(10_000)
	n.Ranges[0].Last = n.Ranges[0].Last.Prev()
	next := newLedger(newNetworks([]fleet.Subnet{n}, nil).sorted[0], nil, b.clock, b.silent)
	r := b.rebuild(b.ledgers[0], next)
	r.run()
	if most := cap(r.copies); most > 2*copiesEach {
		t.Errorf("%d places were copied at once, want %d", most, copiesEach)
	}
	if left := len(b.ledgers[0].dirty); left > 0 {
		t.Errorf("%d places are left for the last step, though nobody came", left)
	}
	for i := range 300 {
		exchange(b, hwaddr{4, 0, 0, 0, byte(i >> 8), byte(i)}) //nolint:gosec // fewer
	}
	if !r.catchUp() || r.catchUp() {
		t.Error("300 changes took other than one more round")
	}
}

// Whatever happens while a ledger is copied, the new one knows it.
func TestANewLedgerKnowsWhatTheOldOneDoes(t *testing.T) {
	b, n := crowdedBook(1000)
	old := b.ledgers[0]
	n.Ranges[0].Last = n.Ranges[0].Last.Prev()
	next := newLedger(newNetworks([]fleet.Subnet{n}, nil).sorted[0], nil, b.clock, b.silent)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	r := b.rebuild(old, next)
	for range 40 {
		for range 100 {
			b.happen(random)
		}
		switch random.IntN(3) {
		case 0:
			r.run()
		case 1:
			r.catchUp()
		case 2:
			r.copyBlock(number(n.Ranges[0].First)>>blockBits + uint32(random.IntN(3))) //nolint:gosec // fewer
		}
	}
	r.run()
	for range 100 {
		b.happen(random)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.finish()
	if old.byAddr.count < 1000 || old.byAddr.count != next.byAddr.count || len(old.byMAC) != len(next.byMAC) || len(old.offers) != len(next.offers) || len(old.names) != len(next.names) {
		t.Errorf("the new ledger has %d places, %d of MACs, %d offers and %d names; the old one %d, %d, %d and %d", next.byAddr.count, len(next.byMAC),
			len(next.offers), len(next.names), old.byAddr.count, len(old.byMAC), len(old.offers), len(old.names))
	}
	for p := range old.byAddr.places() {
		q := next.byAddr.at(p.ip)
		if q == nil {
			t.Fatalf("%s is missing", p.addr())
		}
		want, got := old.copyOf(p), next.copyOf(q)
		want.index, got.index = 0, 0
		if got != want {
			t.Fatalf("%s: %+v, want %+v", p.addr(), got, want)
		}
	}
	for i, sh := range old.shelves {
		to := next.shelves[i]
		bound, declined := sh.inUse.count(time.Now())
		gotBound, gotDeclined := to.inUse.count(time.Now())
		if gotBound != bound || gotDeclined != declined || to.strangers != sh.strangers || len(to.stock) != len(sh.stock) || len(to.due[0]) != len(sh.due[0]) || len(to.due[1]) != len(sh.due[1]) {
			t.Errorf("shelf %d counts otherwise", i)
		}
	}
}

// happen does to a book what a client, a probe or an operator may do.
func (b *book) happen(random *rand.Rand) {
	n := b.network()
	i := random.IntN(1200)
	mac := hwOf(crowdMAC(i))
	a := n.Ranges[0].First
	for range random.IntN(1200) {
		a = a.Next()
	}
	c := &client{mac: mac, known: random.IntN(2) == 0}
	bound := fleet.Lease{Addr: a, Subnet: n.Name, MAC: macOf(mac), State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour), Hostname: "h", ClientID: "ff0102"}
	switch random.IntN(8) {
	case 0, 1:
		exchange(b, mac)
	case 2:
		_, _ = b.offer(n, c, a)
	case 3:
		b.withdraw(n, mac)
	case 4:
		if lease, ok := b.giveUp(mac, a, []fleet.LeaseState{fleet.LeaseReleased, fleet.LeaseDeclined}[random.IntN(2)]); ok {
			b.stored([]fleet.Lease{lease}, random.IntN(4) > 0)
		}
	case 5:
		if _, ok := b.take(c, bound); ok && random.IntN(3) > 0 {
			b.stored([]fleet.Lease{bound}, random.IntN(4) > 0)
		}
	case 6:
		for _, p := range b.restock(func(*network) bool { return true }) {
			b.proven(p.addr)
		}
	case 7:
		if random.IntN(10) == 0 {
			b.quarantine(a)
		}
	}
}

func TestNothingIsLostOrGivenTwiceWhileRangesChange(t *testing.T) {
	b, n := crowdedBook(2000)
	var wg sync.WaitGroup
	var done atomic.Bool
	got := make([]map[netip.Addr]hwaddr, 4)
	for g := range got {
		got[g] = make(map[netip.Addr]hwaddr)
		wg.Go(func() {
			for i := 0; i < 20_000 && (i < 500 || !done.Load()); i++ {
				mac := hwaddr{4, byte(g), 0, 0, byte(i >> 8), byte(i)} //nolint:gosec // cut off
				if a := exchange(b, mac); a.IsValid() {
					got[g][a] = mac
				}
			}
		})
	}
	last := n.Ranges[0].Last
	for i := range 8 {
		n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: last}}
		if i%2 == 0 {
			n.Ranges[0].Last = last.Prev()
		}
		b.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	}
	done.Store(true)
	wg.Wait()
	all := make(map[netip.Addr]fleet.MAC)
	for _, l := range b.all() {
		all[l.Addr] = l.MAC
	}
	given := make(map[netip.Addr]hwaddr)
	for _, some := range got {
		for a, mac := range some {
			if other, twice := given[a]; twice {
				t.Errorf("%s was given to %s and to %s", a, macOf(mac), macOf(other))
			}
			given[a] = mac
			if all[a] != macOf(mac) {
				t.Errorf("%s is of %q in the book, want %s", a, all[a], macOf(mac))
			}
		}
	}
	if len(given) < 2000 || len(all) != 2000+len(given) {
		t.Errorf("%d leases were given, the book has %d; want 2000 more", len(given), len(all))
	}
}

// Nobody waits while a ledger of a million leases is built anew.
func BenchmarkAnotherRangeOfAMillionLeases(b *testing.B) {
	book, n := crowdedBook(1_000_000)
	last := n.Ranges[0].Last
	var longest atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			began := time.Now()
			book.has(book.network(), hwaddr{1})
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	})
	for i := 0; b.Loop(); i++ {
		n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: last}}
		if i%2 == 0 {
			n.Ranges[0].Last = last.Prev()
		}
		book.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	}
	done.Store(true)
	wg.Wait()
	b.ReportMetric(float64(longest.Load())/1e6, "longest-ms")
}

// How it fills up is known of a pool that has another range since.
func TestANewLedgerGoesOnWithTheForecast(t *testing.T) {
	b, n := crowdedBook(100)
	for i := range 10 {
		b.use(true)
		exchange(b, hwaddr{4, 0, 0, 0, 0, byte(i)}) //nolint:gosec // fewer
	}
	before, asked := b.use(false)[0], b.ledgers[0].shelves[0].lastUse
	n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: n.Ranges[0].Last.Prev()}}
	b.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	if got := b.use(false)[0]; got.Size != before.Size-1 || got.Growth != 10 || !got.FullForecast {
		t.Errorf("use = %+v, want one address less and a growth of 10 as before", got)
	}
	if got := b.ledgers[0].shelves[0].lastUse; got != asked || asked == 0 {
		t.Errorf("an address was asked for at %d, want %d", got, asked)
	}
}
