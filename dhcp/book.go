package dhcp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	offerTime      = 30 * time.Second // an offer is kept for the client so long
	quarantineTime = 10 * time.Minute // a declined address is given to nobody so long
	defaultLease   = time.Hour
)

// A book is all leases, in memory. The disk has what was put; what is only
// offered is forgotten at a restart, as RFC 2131 allows.
type book struct {
	mu      sync.Mutex
	now     func() time.Time
	own     map[netip.Addr]bool // addresses of our interfaces
	ledgers []*ledger
	orphans map[netip.Addr]fleet.Lease // leases of no subnet that we serve
}

func newBook(now func() time.Time) *book {
	return &book{now: now, orphans: make(map[netip.Addr]fleet.Lease)}
}

// configure sets the subnets. Leases and offers stay, each with the subnet that
// its address is in now.
func (b *book) configure(subnets []fleet.Subnet, own map[netip.Addr]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.ledgers
	b.own, b.ledgers = own, nil
	for _, n := range subnets {
		if n.CIDR.IsValid() && n.CIDR.Addr().Is4() {
			b.ledgers = append(b.ledgers, newLedger(n, own))
		}
	}
	orphans := b.orphans
	b.orphans = make(map[netip.Addr]fleet.Lease)
	for _, lease := range orphans {
		b.enter(lease)
	}
	for _, l := range old {
		for _, p := range l.byAddr {
			b.move(p)
		}
	}
}

// reconfigure keeps the subnets and sets our own addresses, which are given to
// nobody.
func (b *book) reconfigure(own map[netip.Addr]bool) {
	b.mu.Lock()
	subnets := make([]fleet.Subnet, len(b.ledgers))
	for i, l := range b.ledgers {
		subnets[i] = l.subnet
	}
	b.mu.Unlock()
	b.configure(subnets, own)
}

// move takes a place over from a ledger that is no more.
func (b *book) move(p *place) {
	if p.lease.State != "" {
		b.enter(p.lease)
	}
	l := b.ledgerOf(p.addr)
	if l == nil || p.offered == "" {
		return
	}
	np := l.place(p.addr)
	l.hold(np, p.offered, p.until)
	np.storing = p.storing
}

// load enters what is on disk.
func (b *book) load(leases []fleet.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, lease := range leases {
		b.enter(lease)
	}
}

func (b *book) enter(lease fleet.Lease) {
	if l := b.ledgerOf(lease.Addr); l != nil {
		l.put(lease)
		return
	}
	b.orphans[lease.Addr] = lease
}

func (b *book) ledgerOf(a netip.Addr) *ledger {
	i := slices.IndexFunc(b.ledgers, func(l *ledger) bool { return l.subnet.CIDR.Contains(a) })
	if i < 0 {
		return nil
	}
	return b.ledgers[i]
}

// subnetOf returns the subnet that an address is in.
func (b *book) subnetOf(a netip.Addr) (fleet.Subnet, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ledgerOf(a); l != nil {
		return l.subnet, true
	}
	return fleet.Subnet{}, false
}

// offer finds an address for a client and keeps it for a while.
func (b *book) offer(n fleet.Subnet, mac fleet.MAC, wanted, own netip.Addr) (netip.Addr, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return netip.Addr{}, false
	}
	now := b.now()
	p, ok := l.choose(mac, wanted, own, now)
	if !ok {
		return netip.Addr{}, false
	}
	l.hold(p, mac, now.Add(offerTime))
	return p.addr, true
}

// withdraw takes back what a client was offered: it chose another server.
func (b *book) withdraw(n fleet.Subnet, mac fleet.MAC) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ledgerOf(n.CIDR.Addr()); l != nil {
		if p := l.offers[mac]; p != nil && p.storing == 0 {
			l.letGo(p)
		}
	}
}

// A claim is what the book knows about a client and an address.
type claim struct {
	mine  bool // the client holds the address, or was offered it, or had it last and nobody took it
	taken bool // somebody else holds it
	known bool // the client has a lease on this subnet, whatever its address
	may   bool // the client may have this address at all
}

func (b *book) claim(n fleet.Subnet, mac fleet.MAC, a, own netip.Addr) claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return claim{}
	}
	c := claim{known: l.byMAC[mac] != nil, may: l.mayHave(a, own)}
	p := l.byAddr[a]
	if p == nil {
		return c
	}
	c.taken = !p.freeFor(mac, b.now())
	c.mine = !c.taken && (l.offers[mac] == p || l.byMAC[mac] == p)
	return c
}

// take reserves an address for a client until its lease is stored, and returns
// that lease. It fails when somebody else has the address by now.
func (b *book) take(n fleet.Subnet, mac fleet.MAC, a netip.Addr, hostname string) (fleet.Lease, bool) {
	return b.change(a, mac, fleet.Lease{
		Addr: a, Subnet: n.Name, MAC: mac, Hostname: hostname, State: fleet.LeaseBound,
		Expires: b.now().Add(leaseTime(n)),
	})
}

// giveUp ends the lease of a client: released by it, or declined because
// somebody else answers at the address. It fails for whoever does not hold it.
func (b *book) giveUp(mac fleet.MAC, a netip.Addr, state fleet.LeaseState) (fleet.Lease, bool) {
	b.mu.Lock()
	l := b.ledgerOf(a)
	if l == nil || l.byAddr[a] == nil || l.byAddr[a].lease.State != fleet.LeaseBound || l.byAddr[a].lease.MAC != mac {
		b.mu.Unlock()
		return fleet.Lease{}, false
	}
	lease := l.byAddr[a].lease
	b.mu.Unlock()
	lease.State, lease.Expires = state, b.now()
	if state == fleet.LeaseDeclined {
		lease.Expires = b.now().Add(quarantineTime)
	}
	return b.change(a, mac, lease)
}

func (b *book) change(a netip.Addr, mac fleet.MAC, lease fleet.Lease) (fleet.Lease, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil {
		return fleet.Lease{}, false
	}
	now := b.now()
	p := l.place(a)
	if !p.freeFor(mac, now) {
		return fleet.Lease{}, false
	}
	l.hold(p, mac, now.Add(offerTime))
	p.storing++
	return lease, true
}

// stored enters leases that are on disk now; ok is false when they could not
// be stored, and then nothing has changed.
func (b *book) stored(leases []fleet.Lease, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, lease := range leases {
		l := b.ledgerOf(lease.Addr)
		if l == nil {
			if ok {
				b.orphans[lease.Addr] = lease
			}
			continue
		}
		if p := l.place(lease.Addr); p.storing > 0 {
			p.storing--
		}
		if ok {
			l.put(lease)
		}
	}
}

// leaseByAddr returns the lease that holds an address now.
func (b *book) leaseByAddr(a netip.Addr) (fleet.Lease, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil || l.byAddr[a] == nil {
		return fleet.Lease{}, false
	}
	lease := l.byAddr[a].lease
	return lease, lease.State == fleet.LeaseBound && b.now().Before(lease.Expires)
}

func leaseTime(n fleet.Subnet) time.Duration {
	if n.Lease <= 0 {
		return defaultLease
	}
	return time.Duration(n.Lease) * time.Second
}
