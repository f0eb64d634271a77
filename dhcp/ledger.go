package dhcp

import (
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// A client is who asks for an address, as far as it matters for which one it
// gets.
type client struct {
	mac   hwaddr
	known bool       // somebody approved it, or reserved something for it
	own   netip.Addr // the address that its node has on record, or that is reserved for it
	fixed bool       // own is reserved for it: it gets no other
	shelf int        // of its class
}

// A ledger is the addresses of one subnet. Every operation takes the same time
// with ten leases as with a million, but for the heap's logarithm.
type ledger struct {
	clock    *clock
	net      *network
	never    map[uint32]bool // router and the like: given to nobody
	reserved map[uint32]bool // given to one client only
	byAddr   blocks
	byMAC    map[hwaddr]uint32 // address, by holder of the lease on disk
	offers   map[hwaddr]*place // by whom the address is offered to
	byID     map[string]*place // by client identifier, of those that are not the MAC once more
	names    map[uint32]names  // of the clients of leases, if they have any
	silent   map[uint32]hwaddr // whose lease of an address the disk has, where it ended and the disk was not told: the book's
	shelves  []*shelf
	dirty    map[uint32]struct{} // places that have changed since they were copied; nil: nobody copies
}

func newLedger(n *network, own map[netip.Addr]bool, c *clock, silent map[uint32]hwaddr) *ledger {
	l := &ledger{
		clock: c, net: n, byAddr: newBlocks(), silent: silent,
		byMAC: make(map[hwaddr]uint32), offers: make(map[hwaddr]*place), byID: make(map[string]*place), names: make(map[uint32]names),
	}
	l.never, l.reserved = setAside(n, own)
	l.shelves = l.newShelves()
	return l
}

// newShelves returns what a network is declared to give, to everybody and to
// each class with ranges of its own.
func (l *ledger) newShelves() []*shelf {
	shelves := []*shelf{l.newShelf("", l.net.Ranges)}
	for _, c := range l.net.classes {
		if c.shelf > 0 {
			shelves = append(shelves, l.newShelf(c.Name, c.Ranges))
		}
	}
	return shelves
}

// setAside returns the addresses of a network that are given to nobody, and to
// one client only.
func setAside(n *network, own map[netip.Addr]bool) (never, reserved map[uint32]bool) {
	never, reserved = make(map[uint32]bool), make(map[uint32]bool)
	add := func(to map[uint32]bool, a netip.Addr) {
		if n.CIDR.Contains(a) {
			to[number(a)] = true
		}
	}
	for _, a := range append([]netip.Addr{n.Router, n.Server, n.CIDR.Masked().Addr(), broadcastOf(n.CIDR)}, n.DNS...) {
		add(never, a)
	}
	for a := range own {
		add(never, a)
	}
	for _, r := range n.Reservations {
		add(reserved, r.Addr)
	}
	return never, reserved
}

// broadcastOf returns the last address of a network.
func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// shelfOf returns the number of the shelf of an address that we give to
// anybody.
func (l *ledger) shelfOf(ip uint32) uint16 {
	if l.never[ip] || l.reserved[ip] {
		return noShelf
	}
	for i, sh := range l.shelves {
		if sh.contains(ip) {
			return uint16(i) //nolint:gosec // nobody declares so many classes
		}
	}
	return noShelf
}

// shelf returns the shelf of a place; nil when it has none.
func (l *ledger) shelf(p *place) *shelf {
	if p.shelf == noShelf {
		return nil
	}
	return l.shelves[p.shelf]
}

// at returns the place of an address; nil when there is none yet.
func (l *ledger) at(a netip.Addr) *place {
	if !a.Is4() {
		return nil
	}
	return l.byAddr.at(number(a))
}

// heldBy returns the place that a client has a lease of, or had last; nil when
// there is none.
func (l *ledger) heldBy(mac hwaddr) *place { return l.byAddr.at(l.byMAC[mac]) }

// mayHave reports whether a client may have this address at all. Where a
// subnet serves known nodes only, the address that a node has on record may
// lie outside of the ranges.
func (l *ledger) mayHave(a netip.Addr, c *client) bool {
	if !l.net.CIDR.Contains(a) {
		return false
	}
	ip := number(a)
	switch {
	case c.fixed:
		return a == c.own
	case int(l.shelfOf(ip)) == c.shelf:
		return true
	default:
		return l.net.Mode == fleet.Reserved && a == c.own && !l.never[ip] && !l.reserved[ip]
	}
}

// choose finds an address for a client: the one it was offered, the one it has
// or had, the one it asks for, its own by declaration, and at last one of its
// shelf.
func (l *ledger) choose(c *client, wanted netip.Addr, now instant) (*place, refusal) {
	for _, p := range []*place{l.offers[c.mac], l.heldBy(c.mac)} {
		if p != nil && l.mayHave(p.addr(), c) && p.freeFor(c.mac, now) {
			return p, served
		}
	}
	if c.shelf >= len(l.shelves) {
		return nil, refusedNetwork // classes were declared, or are no more, while the packet was read
	}
	sh := l.shelves[c.shelf]
	room := c.known || sh.strangers < sh.share
	for _, a := range []netip.Addr{wanted, c.own} {
		if !room || !a.IsValid() || !l.mayHave(a, c) {
			continue
		}
		if p := l.at(a); p == nil || p.lease.state == noLease && p.freeFor(c.mac, now) {
			return l.place(number(a), !c.known, now.add(offerTime)), served
		}
	}
	if p := l.at(c.own); p != nil && (c.fixed || l.net.Mode == fleet.Reserved) && l.mayHave(c.own, c) && p.freeFor(c.mac, now) {
		return p, served
	}
	if c.fixed {
		return nil, refusedReserved
	}
	return l.next(sh, c, now)
}

// place returns the place of an address, a new one if need be, whose client is
// a stranger or not, and which is due then.
func (l *ledger) place(ip uint32, stranger bool, due instant) *place {
	if p := l.byAddr.at(ip); p != nil {
		return p
	}
	p := l.byAddr.add(place{ip: ip, index: -1, shelf: l.shelfOf(ip), stranger: stranger, due: due})
	l.touch(p)
	if sh := l.shelf(p); sh != nil {
		sh.add(p)
	}
	return p
}

func (l *ledger) reschedule(p *place, at instant) {
	if p.due == at {
		return
	}
	l.touch(p)
	p.due = at
	if sh := l.shelf(p); sh != nil {
		sh.fix(p)
	}
}

// hold keeps a place for a client for a while.
func (l *ledger) hold(p *place, c *client, until instant) {
	if old := l.offers[c.mac]; old != nil && old != p {
		l.letGo(old)
	}
	if p.offered != c.mac {
		l.letGo(p)
	}
	l.touch(p)
	if sh := l.shelf(p); sh != nil {
		sh.mark(p, !c.known)
	}
	p.offered, p.until = c.mac, until
	l.offers[c.mac] = p
	if p.lease.state == noLease || p.lease.expires < until {
		l.reschedule(p, until)
	}
}

// letGo takes an offer back.
func (l *ledger) letGo(p *place) {
	if p.offered == (hwaddr{}) {
		return
	}
	l.touch(p)
	if l.offers[p.offered] == p {
		delete(l.offers, p.offered)
	}
	p.offered = hwaddr{}
	l.reschedule(p, p.freeAt())
}

// put enters a lease that is on disk now. The client's former lease on this
// subnet ends, on disk as in here. Of a place that nobody had it says whether
// a stranger has it.
func (l *ledger) put(lease *fleet.Lease, stranger bool) *place {
	t, n := l.tenure(lease)
	p := l.place(number(lease.Addr), stranger, t.expires)
	if p.lease.state != noLease && l.heldBy(p.lease.mac) == p && p.lease.mac != t.mac {
		delete(l.byMAC, p.lease.mac)
	}
	if old := l.heldBy(t.mac); old != nil && old != p && t.state == leaseBound {
		if old.lease.state == leaseBound {
			l.silent[old.ip] = t.mac
		}
		l.enter(old, tenure{}, names{})
		l.reschedule(old, old.freeAt())
	}
	l.enter(p, t, n)
	switch {
	case t.state == leaseBound:
		l.byMAC[t.mac] = p.ip
	case t.state == leaseReleased && l.heldBy(t.mac) == nil:
		l.byMAC[t.mac] = p.ip // it may have it back
	case t.state == leaseDeclined && l.heldBy(t.mac) == p:
		delete(l.byMAC, t.mac)
	}
	if p.offered == t.mac && p.storing == 0 {
		l.letGo(p)
	}
	l.reschedule(p, p.freeAt())
	return p
}

// enter gives a place another lease, and counts both.
func (l *ledger) enter(p *place, t tenure, n names) {
	l.touch(p)
	if sh := l.shelf(p); sh != nil {
		sh.inUse.add(p.lease, -1)
		sh.inUse.add(t, 1)
	}
	old := l.names[p.ip]
	if old.id != "" && l.byID[old.id] == p {
		delete(l.byID, old.id)
	}
	if n.id != "" {
		l.byID[n.id] = p
	}
	switch {
	case n != names{}:
		l.names[p.ip] = n
	case old != names{}:
		delete(l.names, p.ip)
	}
	p.lease = t
}

// quarantine keeps an address from everybody for a while: somebody whom we do
// not know is there.
func (l *ledger) quarantine(p *place, until instant) {
	l.letGo(p)
	if l.heldBy(p.lease.mac) == p {
		delete(l.byMAC, p.lease.mac)
	}
	if p.lease.state == leaseBound {
		l.silent[p.ip] = p.lease.mac
	}
	l.enter(p, tenure{state: leaseDeclined, expires: until}, names{})
	l.reschedule(p, until)
}
