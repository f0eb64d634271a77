package dhcp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// subnetAt is a subnet with a hundred dynamic addresses.
func subnetAt(cidr, first, last string) fleet.Subnet {
	return fleet.Subnet{
		Name: cidr, CIDR: netip.MustParsePrefix(cidr), Mode: fleet.Full,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}},
	}
}

// leasedBook has two subnets, with leases on the first 50 addresses of each.
func leasedBook(subnets ...fleet.Subnet) *book {
	b := newBook(time.Now)
	b.configure(newNetworks(subnets, nil).sorted, nil, func() {})
	for i, n := range subnets {
		a := n.Ranges[0].First
		for k := range 50 {
			b.load(fleet.Lease{Addr: a, Subnet: n.Name, MAC: strangerMAC(100*i + k), State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}, k%2 == 0)
			a = a.Next()
		}
	}
	return b
}

func TestAChangeOfANetworkTouchesNoOther(t *testing.T) {
	left, right := subnetAt("10.1.0.0/24", "10.1.0.100", "10.1.0.199"), subnetAt("10.2.0.0/24", "10.2.0.100", "10.2.0.199")
	own := map[netip.Addr]bool{netip.MustParseAddr("10.1.0.3"): true}
	reserved := fleet.Reservation{MAC: "52:54:00:00:00:01", Addr: netip.MustParseAddr("10.1.0.120")}
	tests := map[string]struct {
		change func(*fleet.Subnet)
		own    map[netip.Addr]bool
		anew   bool // its ledger is built anew
	}{
		"nothing":              {func(*fleet.Subnet) {}, nil, false},
		"a relay has enrolled": {func(n *fleet.Subnet) { n.Edges = []netip.Addr{own3} }, nil, false},
		"an address of ours":   {func(*fleet.Subnet) {}, own, false},
		"another mode":         {func(n *fleet.Subnet) { n.Mode = fleet.Observe }, nil, false},
		"another router":       {func(n *fleet.Subnet) { n.Router = own3 }, nil, false},
		"a reservation":        {func(n *fleet.Subnet) { n.Reservations = []fleet.Reservation{reserved} }, nil, false},
		"a longer range":       {func(n *fleet.Subnet) { n.Ranges[0].Last = netip.MustParseAddr("10.1.0.210") }, nil, true},
		"an excluded address":  {func(n *fleet.Subnet) { n.Exclude = []fleet.AddrRange{{First: own3, Last: own3.Next()}, n.Ranges[0]} }, nil, true},
		"a class with a range": {func(n *fleet.Subnet) {
			n.Classes = []fleet.DHCPClass{{Name: "c", Ranges: []fleet.AddrRange{{First: own3, Last: own3}}}}
		}, nil, true},
		"a larger network, too": {func(n *fleet.Subnet) { n.CIDR = netip.MustParsePrefix("10.1.0.0/23") }, nil, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := leasedBook(left, right)
			changed := left
			changed.Ranges = slices.Clone(left.Ranges)
			tt.change(&changed)
			was := slices.Clone(b.ledgers)
			first := was[0].at(left.Ranges[0].First)
			b.configure(newNetworks([]fleet.Subnet{changed, right}, nil).sorted, tt.own, func() {})
			if b.ledgers[1] != was[1] {
				t.Error("the ledger of the other network was built anew")
			}
			if anew := b.ledgers[0] != was[0]; anew != tt.anew {
				t.Errorf("its own was built anew: %v, want %v", anew, tt.anew)
			}
			if same := b.ledgers[0].at(left.Ranges[0].First) == first; same == tt.anew {
				t.Errorf("its places are the same: %v, want %v", same, !tt.anew)
			}
			if got := len(b.all()); got != 100 {
				t.Errorf("%d leases, want 100", got)
			}
			looksAsBuiltAnew(t, b.ledgers[0])
		})
	}
}

var own3 = netip.MustParseAddr("10.1.0.3")

// looksAsBuiltAnew compares a ledger with one that is made of its leases.
func looksAsBuiltAnew(t *testing.T, l *ledger) {
	t.Helper()
	b := newBook(time.Now)
	b.configure([]*network{l.net}, nil, func() {})
	fresh := b.ledgers[0]
	fresh.never, fresh.reserved = l.never, l.reserved
	fresh.shelves[0] = fresh.newShelf("", l.net.Ranges)
	for p := range l.byAddr.places() {
		if p.shelf != fresh.shelfOf(p.ip) {
			t.Errorf("%s is on shelf %d, want %d", p.addr(), p.shelf, fresh.shelfOf(p.ip))
		}
		c := l.copyOf(p)
		fresh.adopt(&c)
	}
	for i, sh := range l.shelves {
		want := fresh.shelves[i]
		bound, _ := sh.inUse.count(time.Now())
		wantBound, _ := want.inUse.count(time.Now())
		if sh.size != want.size || sh.share != want.share || sh.strangers != want.strangers || bound != wantBound || len(sh.due[0])+len(sh.due[1]) != len(want.due[0])+len(want.due[1]) {
			t.Errorf("shelf %d: size %d share %d strangers %d bound %d, want %d %d %d %d", i, sh.size, sh.share, sh.strangers, bound, want.size, want.share, want.strangers, wantBound)
		}
	}
}

// An address that is reserved for nobody any more is given again.
func TestAnAddressThatIsFreeAgainIsGiven(t *testing.T) {
	n := subnetAt("10.1.0.0/24", "10.1.0.100", "10.1.0.101")
	reserved := n
	reserved.Reservations = []fleet.Reservation{{MAC: "52:54:00:00:00:01", Addr: netip.MustParseAddr("10.1.0.100")}}
	b := newBook(time.Now)
	b.configure(newNetworks([]fleet.Subnet{reserved}, nil).sorted, nil, func() {})
	got, why := b.offer(b.ledgers[0].net, &client{mac: hwaddr{1}, known: true}, netip.Addr{})
	if why != served || got.addr != n.Ranges[0].Last {
		t.Fatalf("offered %v, %v", got.addr, why)
	}
	b.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	if got, why = b.offer(b.ledgers[0].net, &client{mac: hwaddr{2}, known: true}, netip.Addr{}); why != served || got.addr != n.Ranges[0].First {
		t.Errorf("offered %v, %v, want what was reserved", got.addr, why)
	}
}

// Nobody is answered while networks are configured.
func BenchmarkAReservationAmongAMillionLeases(b *testing.B) {
	n := wideSubnet()
	book := newBook(time.Now)
	book.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	a, expires := n.Ranges[0].First, time.Now().Add(time.Hour)
	for i := range 1_000_000 {
		book.load(fleet.Lease{Addr: a, Subnet: n.Name, MAC: macOf(hwaddr{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), State: fleet.LeaseBound, Expires: expires}, false)
		a = a.Next()
	}
	for i := 0; b.Loop(); i++ {
		n.Reservations = []fleet.Reservation{{MAC: "52:54:00:00:00:01", Addr: netip.AddrFrom4([4]byte{10, 2, 0, byte(i)})}}
		book.configure(newNetworks([]fleet.Subnet{n}, nil).sorted, nil, func() {})
	}
}

func TestStrangersAreStrangersWhenTheirSubnetIsDeclaredAgain(t *testing.T) {
	left, right := subnetAt("10.1.0.0/24", "10.1.0.100", "10.1.0.199"), subnetAt("10.2.0.0/24", "10.2.0.100", "10.2.0.199")
	b := leasedBook(left, right)
	for _, declared := range [][]fleet.Subnet{{right}, {right}, {left, right}} {
		b.configure(newNetworks(declared, nil).sorted, nil, func() {})
	}
	strangers := 0
	for p := range b.ledgers[0].byAddr.places() {
		if p.stranger {
			strangers++
		}
	}
	if strangers != 25 {
		t.Errorf("%d leases are of strangers, want 25 of 50", strangers)
	}
}
