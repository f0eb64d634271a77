package dhcp

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
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

// While ledgers of very many leases are built anew, clients are answered, one
// after the other: not just before and after.
func TestClientsAreAnsweredWhileNetworksChange(t *testing.T) {
	far := subnetAt("172.16.0.0/16", "172.16.0.100", "172.16.255.199")
	tests := map[string]struct {
		before []fleet.Subnet // beside the crowded one, with as many leases
		after  func(crowded *fleet.Subnet) (beside []fleet.Subnet)
		leases int
	}{
		"it has other ranges": {nil, func(n *fleet.Subnet) []fleet.Subnet {
			n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: n.Ranges[0].Last.Prev()}}
			return nil
		}, 50_000},
		"it is a larger network": {nil, func(n *fleet.Subnet) []fleet.Subnet { n.CIDR = netip.MustParsePrefix("10.0.0.0/7"); return nil }, 50_000},
		"another is taken out":   {[]fleet.Subnet{far}, func(*fleet.Subnet) []fleet.Subnet { return nil }, 100_000},
		"another appears":        {nil, func(*fleet.Subnet) []fleet.Subnet { return []fleet.Subnet{far} }, 100_000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, n := crowdedBook(50_000)
			b.configure(newNetworks(append(tt.before, n), nil).sorted, nil, func() {})
			for i, a := 0, far.Ranges[0].First; i < tt.leases-50_000; i++ {
				b.load(fleet.Lease{Addr: a, Subnet: far.Name, MAC: crowdMAC(i), State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}, i%2 == 0)
				a = a.Next()
			}
			var done atomic.Bool
			answered, started := make(chan int), make(chan bool)
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
			after := append(tt.after(&n), n)
			b.configure(newNetworks(after, nil).sorted, nil, func() {})
			done.Store(true)
			given := <-answered
			if given < 100 {
				t.Errorf("%d clients got addresses meanwhile, want hundreds", given)
			}
			if got := b.ledgers[0].net; got.CIDR != n.CIDR || got.Ranges[0] != n.Ranges[0] {
				t.Errorf("the network is %s with %v, want %s with %v", got.CIDR, got.Ranges, n.CIDR, n.Ranges)
			}
			if got := len(b.all()) + len(b.orphans); got != tt.leases+given {
				t.Errorf("%d leases are known, want %d", got, tt.leases+given)
			}
		})
	}
}

// What happens to networks that become one, and to the one that they became, is
// known afterwards, also when it happens while their ledgers are copied.
func TestNothingIsForgottenWhileNetworksBecomeOneAndTwoAgain(t *testing.T) {
	left, right := subnetAt("10.2.0.0/24", "10.2.0.10", "10.2.0.199"), subnetAt("10.2.1.0/24", "10.2.1.10", "10.2.1.199")
	both := subnetAt("10.2.0.0/23", "10.2.0.10", "10.2.1.199")
	b := newBook(time.Now)
	change := func(between func(), subnets ...fleet.Subnet) {
		t.Helper()
		var anew []*ledger
		for _, n := range newNetworks(subnets, nil).sorted {
			anew = append(anew, newLedger(n, nil, b.clock, b.silent))
		}
		r := b.rebuild(b.ledgers, anew)
		r.run()
		between()
		b.mu.Lock()
		defer b.mu.Unlock()
		r.finish()
		b.ledgers, b.byNet = anew, make(map[netip.Prefix]*ledger)
		for _, l := range anew {
			b.byNet[l.net.CIDR] = l
		}
	}
	lease := func(a string, mac byte, state fleet.LeaseState, left time.Duration) {
		l := fleet.Lease{Addr: netip.MustParseAddr(a), MAC: macOf(hwaddr{4, mac}), State: state, Expires: time.Now().Add(left), Hostname: "h" + a}
		if _, ok := b.take(&client{mac: hwaddr{4, mac}, known: true}, l); !ok && b.ledgerOf(l.Addr) != nil {
			t.Fatalf("%s is not free", a)
		}
		b.stored([]fleet.Lease{l}, true)
	}
	holds := func(when string, mac byte, want ...string) {
		t.Helper()
		var got []string
		for _, l := range b.leasesByMAC(macOf(hwaddr{4, mac})) {
			got = append(got, l.Addr.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s client %d has %v, want %v", when, mac, got, want)
		}
	}

	lease("10.2.0.10", 1, fleet.LeaseBound, time.Hour) // nothing is declared yet
	lease("10.2.1.10", 2, fleet.LeaseBound, time.Hour)
	change(func() { lease("10.2.1.11", 3, fleet.LeaseBound, time.Hour) }, left)
	holds("at first", 1, "10.2.0.10")
	holds("at first", 2)
	change(func() { lease("10.2.0.12", 4, fleet.LeaseBound, time.Hour) }, left, right)
	for mac, want := range map[byte]string{1: "10.2.0.10", 2: "10.2.1.10", 3: "10.2.1.11", 4: "10.2.0.12"} {
		holds("with two networks", mac, want)
	}
	if got := len(b.orphans); got != 0 {
		t.Errorf("%d leases are in no network", got)
	}
	lease("10.2.1.14", 4, fleet.LeaseBound, 2*time.Hour) // in both
	holds("in both networks", 4, "10.2.0.12", "10.2.1.14")
	lease("10.2.0.15", 5, fleet.LeaseReleased, 0)
	lease("10.2.1.15", 5, fleet.LeaseBound, time.Hour)
	change(func() {
		lease("10.2.0.16", 6, fleet.LeaseBound, 3*time.Hour)
		lease("10.2.1.16", 6, fleet.LeaseBound, time.Hour)
	}, both)
	for mac, want := range map[byte]string{1: "10.2.0.10", 2: "10.2.1.10", 4: "10.2.1.14", 5: "10.2.1.15", 6: "10.2.0.16"} {
		holds("with one network", mac, want)
	}
	want := map[uint32]hwaddr{number(netip.MustParseAddr("10.2.0.12")): {4, 4}, number(netip.MustParseAddr("10.2.1.16")): {4, 6}}
	if !maps.Equal(b.silent, want) {
		t.Errorf("the disk is to be told of the ends of %v, want %v", b.silent, want)
	}
	change(func() { lease("10.2.0.17", 7, fleet.LeaseBound, time.Hour) }, left)
	holds("with half of it", 7, "10.2.0.17")
	holds("with half of it", 4)
	change(func() {}, both)
	for mac, want := range map[byte]string{1: "10.2.0.10", 2: "10.2.1.10", 4: "10.2.1.14", 6: "10.2.0.16", 7: "10.2.0.17"} {
		holds("with one network again", mac, want)
	}
	for _, l := range b.all() {
		if l.Hostname != "h"+l.Addr.String() {
			t.Errorf("%s is of %q", l.Addr, l.Hostname)
		}
	}
	looksAsBuiltAnew(t, b.ledgers[0])
}

// The book is not locked for longer than one block of places takes.
func TestALedgerIsCopiedInSmallSteps(t *testing.T) {
	b, n := crowdedBook(10_000)
	n.Ranges[0].Last = n.Ranges[0].Last.Prev()
	next := newLedger(newNetworks([]fleet.Subnet{n}, nil).sorted[0], nil, b.clock, b.silent)
	r := b.rebuild(b.ledgers[:1], []*ledger{next})
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
	r := b.rebuild([]*ledger{old}, []*ledger{next})
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
			r.copyBlock(old, number(n.Ranges[0].First)>>blockBits+uint32(random.IntN(3))) //nolint:gosec // fewer
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
	benchmarkChange(b, func(n *fleet.Subnet, i int) {
		last := netip.MustParseAddr("10.31.255.255")
		if i%2 == 0 {
			last = last.Prev()
		}
		n.Ranges = []fleet.AddrRange{{First: n.Ranges[0].First, Last: last}}
	})
}

func BenchmarkAnotherNetworkOfAMillionLeases(b *testing.B) {
	benchmarkChange(b, func(n *fleet.Subnet, i int) { n.CIDR = netip.PrefixFrom(n.CIDR.Addr(), 7+i%2) })
}

func benchmarkChange(b *testing.B, change func(n *fleet.Subnet, i int)) {
	b.Helper()
	book, n := crowdedBook(1_000_000)
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
		change(&n, i)
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
