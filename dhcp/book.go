package dhcp

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	offerTime      = 30 * time.Second // an offer is kept for the client so long
	quarantineTime = 10 * time.Minute // a declined address is given to nobody so long
)

// A book is all leases, in memory. The disk has what was put; what is only
// offered is forgotten at a restart, as RFC 2131 allows.
type book struct {
	declaring sync.Mutex // held while networks change; taken before mu

	mu      sync.Mutex
	clock   *clock
	ledgers []*ledger // by first address of their networks
	byNet   map[netip.Prefix]*ledger
	orphans map[netip.Addr]orphan   // leases of no subnet that we serve
	touched map[netip.Addr]struct{} // of them, those that have changed since they were copied; nil: nobody copies
	silent  map[uint32]hwaddr       // see [ledger]
}

// An orphan is a lease whose subnet is not declared, until it is again.
type orphan struct {
	fleet.Lease
	stranger bool
}

func newBook(now func() time.Time) *book {
	return &book{clock: newClock(now), orphans: make(map[netip.Addr]orphan), silent: make(map[uint32]hwaddr)}
}

// configure sets the networks, from the moment on at which it calls then. Leases
// and offers stay, each with the network that its address is in now. A ledger is
// built anew only when its network is another one, or its ranges are, and beside
// the old ones: they may have a million leases, and clients are answered meanwhile.
func (b *book) configure(nets []*network, own map[netip.Addr]bool, then func()) {
	b.declaring.Lock()
	defer b.declaring.Unlock()
	b.declare(nets, own, then)
}

// reconfigure keeps the networks and sets our own addresses, which are given
// to nobody.
func (b *book) reconfigure(own map[netip.Addr]bool) {
	b.declaring.Lock()
	defer b.declaring.Unlock()
	b.mu.Lock()
	nets := make([]*network, len(b.ledgers))
	for i, l := range b.ledgers {
		nets[i] = l.net
	}
	b.mu.Unlock()
	b.declare(nets, own, func() {})
}

// declare is configure; the caller holds declaring, so that nobody else changes
// which ledgers there are.
func (b *book) declare(nets []*network, own map[netip.Addr]bool, then func()) {
	ledgers := make([]*ledger, len(nets))
	var anew, former []*ledger
	for i, n := range nets {
		ledgers[i] = newLedger(n, own, b.clock, b.silent)
		if l := b.byNet[n.CIDR]; l != nil && l.hasShelvesOf(ledgers[i]) {
			ledgers[i] = l
			continue
		}
		anew = append(anew, ledgers[i])
	}
	for _, l := range b.ledgers {
		if !slices.Contains(ledgers, l) {
			former = append(former, l)
		}
	}
	r := b.rebuild(former, anew)
	r.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer then()
	r.finish()
	b.ledgers, b.byNet = ledgers, make(map[netip.Prefix]*ledger, len(nets))
	for i, l := range ledgers {
		if !slices.Contains(anew, l) {
			l.redeclare(nets[i], own)
		}
		b.byNet[nets[i].CIDR] = l
	}
}

// load enters a lease that is on disk, and whether its client is a stranger.
func (b *book) load(lease fleet.Lease, stranger bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enter(&lease, stranger)
}

// enter puts a lease into its ledger.
func (b *book) enter(lease *fleet.Lease, stranger bool) {
	l := b.ledgerOf(lease.Addr)
	if l == nil {
		b.leave(lease, stranger)
		return
	}
	delete(b.silent, number(lease.Addr)) // the disk has this one now
	p := l.put(lease, stranger)
	if sh := l.shelf(p); sh != nil {
		sh.mark(p, stranger)
	}
	l.touch(p)
}

// leave keeps a lease that is in no ledger.
func (b *book) leave(lease *fleet.Lease, stranger bool) {
	delete(b.silent, number(lease.Addr)) // the disk has this one now
	b.orphans[lease.Addr] = orphan{*lease, stranger}
	if b.touched != nil {
		b.touched[lease.Addr] = struct{}{}
	}
}

// ledgerOf returns the ledger that an address is in.
func (b *book) ledgerOf(a netip.Addr) *ledger { return ledgerIn(b.ledgers, a) }

// ledgerIn returns that of some ledgers, which are in the order of their
// networks, that an address is in.
func ledgerIn(ledgers []*ledger, a netip.Addr) *ledger {
	i, found := slices.BinarySearchFunc(ledgers, a, func(l *ledger, a netip.Addr) int { return l.net.CIDR.Addr().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !ledgers[i].net.CIDR.Contains(a) {
		return nil
	}
	return ledgers[i]
}

// A pick is an address for a client. It is unproven when nobody has asked
// yet whether somebody is there already.
type pick struct {
	net      *network
	addr     netip.Addr
	unproven bool
}

// offer finds an address for a client on a network and keeps it for a while.
func (b *book) offer(n *network, c *client, wanted netip.Addr) (pick, refusal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.byNet[n.CIDR]
	if l == nil {
		return pick{}, refusedNetwork
	}
	now := b.instant()
	p, why := l.choose(c, wanted, now)
	if why != served {
		return pick{}, why
	}
	l.hold(p, c, now.add(offerTime))
	unproven := !c.fixed && l.heldBy(c.mac) != p && now.since(p.checked) > provenTime
	return pick{net: n, addr: p.addr(), unproven: unproven}, served
}

// withdraw takes back what a client was offered: it chose another server.
func (b *book) withdraw(n *network, mac hwaddr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.byNet[n.CIDR]; l != nil {
		if p := l.offers[mac]; p != nil && p.storing == 0 {
			l.letGo(p)
		}
	}
}

// has reports whether a client has, or is offered, an address on a network.
func (b *book) has(n *network, mac hwaddr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.byNet[n.CIDR]
	return l != nil && (l.offers[mac] != nil || l.heldBy(mac) != nil)
}

// A claim is what the book knows about a client and an address.
type claim struct {
	mine  bool // the client holds the address, or was offered it, or had it last and nobody took it
	taken bool // somebody else holds it
	known bool // the client has a lease on this subnet, whatever its address
	may   bool // the client may have this address at all
}

func (b *book) claim(n *network, c *client, a netip.Addr) claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.byNet[n.CIDR]
	if l == nil {
		return claim{}
	}
	cl := claim{known: l.heldBy(c.mac) != nil, may: l.mayHave(a, c)}
	p := l.at(a)
	if p == nil {
		if cl.may && !c.known && l.isFull(l.shelfOf(number(a))) {
			cl.may = false
		}
		return cl
	}
	cl.taken = !p.freeFor(c.mac, b.instant())
	cl.mine = !cl.taken && (l.offers[c.mac] == p || l.heldBy(c.mac) == p)
	if !cl.mine && !c.known && !p.stranger && l.isFull(p.shelf) {
		cl.may = false
	}
	return cl
}

// take reserves an address for a client until its lease is stored. It fails
// when somebody else has the address by now. Until safe it is the client's
// whether the lease can be stored or not: it has one that is, or the address is
// reserved for it.
func (b *book) take(c *client, lease fleet.Lease) (safe instant, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.change(c, lease) {
		return 0, false
	}
	if c.fixed {
		safe = b.instant().add(reservedTime)
	}
	if p := b.ledgerOf(lease.Addr).at(lease.Addr); p.lease.state == leaseBound && p.lease.mac == c.mac {
		safe = max(safe, p.lease.expires)
	}
	return min(safe, b.clock.of(lease.Expires)), true
}

// giveUp ends the lease of a client: released by it, or declined because
// somebody else answers at the address. It fails for whoever does not hold it.
func (b *book) giveUp(mac hwaddr, a netip.Addr, state fleet.LeaseState) (fleet.Lease, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil {
		return fleet.Lease{}, false
	}
	p := l.at(a)
	if p == nil || p.lease.state != leaseBound || p.lease.mac != mac {
		return fleet.Lease{}, false
	}
	lease := l.lease(p)
	now := b.clock.wall()
	lease.State, lease.Expires = state, now
	if state == fleet.LeaseDeclined {
		lease.Expires = now.Add(quarantineTime)
	}
	return lease, b.change(&client{mac: mac, known: !p.stranger}, lease)
}

func (b *book) change(c *client, lease fleet.Lease) bool {
	l := b.ledgerOf(lease.Addr)
	if l == nil {
		return false
	}
	now := b.instant()
	p := l.place(number(lease.Addr), !c.known, now.add(offerTime))
	if !p.freeFor(c.mac, now) {
		return false
	}
	l.hold(p, c, now.add(offerTime))
	p.storing++
	return true
}

// stored enters leases that are on disk now; ok is false when they could not
// be stored, and then nothing has changed.
func (b *book) stored(leases []fleet.Lease, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range leases {
		lease := &leases[i]
		l := b.ledgerOf(lease.Addr)
		if l == nil {
			if ok {
				b.leave(lease, b.orphans[lease.Addr].stranger)
			}
			continue
		}
		if p := l.at(lease.Addr); p != nil && p.storing > 0 {
			l.touch(p)
			p.storing--
		}
		if ok {
			delete(b.silent, number(lease.Addr))
			l.put(lease, false)
		}
	}
}

// blocksOf returns which blocks of places a ledger has.
func (b *book) blocksOf(l *ledger) []uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.AppendSeq(make([]uint32, 0, len(l.byAddr.all)), maps.Keys(l.byAddr.all))
}

// leaseByAddr returns the lease that holds an address now.
func (b *book) leaseByAddr(a netip.Addr) (fleet.Lease, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil {
		return fleet.Lease{}, false
	}
	p := l.at(a)
	if p == nil || !b.holds(p) {
		return fleet.Lease{}, false
	}
	return l.lease(p), true
}

// gave reports whether somebody has a lease of an address, or had it last: some
// firmware gives it back before what it has loaded goes on.
func (b *book) gave(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil {
		return false
	}
	p := l.at(a)
	return p != nil && (p.lease.state == leaseBound || p.lease.state == leaseReleased)
}

// holds reports whether a place has a lease that holds it now.
func (b *book) holds(p *place) bool {
	return p != nil && p.lease.state == leaseBound && b.instant() < p.lease.expires
}

func (b *book) instant() instant { return b.clock.now() }

// leasesByMAC returns the leases that a client has now, the newest first.
func (b *book) leasesByMAC(mac fleet.MAC) (leases []fleet.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.ledgers {
		if p := l.heldBy(hwOf(mac)); b.holds(p) {
			leases = append(leases, l.lease(p))
		}
	}
	slices.SortFunc(leases, func(x, y fleet.Lease) int { return y.Expires.Compare(x.Expires) })
	return leases
}

// leasesByClientID returns the lease of a client that names itself so, in hex.
func (b *book) leasesByClientID(id string) (leases []fleet.Lease) {
	if mac, ok := macOfID(id); ok {
		for _, l := range b.leasesByMAC(mac) {
			if l.ClientID == id {
				leases = append(leases, l)
			}
		}
		return leases
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.ledgers {
		if p := l.byID[id]; b.holds(p) {
			leases = append(leases, l.lease(p))
		}
	}
	return leases
}

// macOfID returns the MAC that most client identifiers are.
func macOfID(id string) (fleet.MAC, bool) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 7 || raw[0] != 1 {
		return "", false
	}
	return macOf([6]byte(raw[1:])), true
}
