package dhcp

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A place is an address that somebody has, had, or is about to get.
type place struct {
	addr  netip.Addr
	lease fleet.Lease // as it is on disk; State "" when there is none

	offered fleet.MAC // who may take it, until then; also while the lease is being stored
	until   time.Time
	storing int // leases of it on their way to the disk; until they are there it is nobody else's

	shelf    *shelf    // nil when the address is outside of the ranges
	stranger bool      // who has it, or had it last, was approved by nobody
	checked  time.Time // when nobody answered there last
	probing  bool      // somebody is being asked there

	due   time.Time // never later than freeAt: see ledger.oldest
	index int       // in one of the heaps of the shelf; -1 when it has none
}

// holder returns who has the address now. A declined address is held by
// nobody that could be named: busy is true and the name is empty.
func (p *place) holder(now time.Time) (mac fleet.MAC, busy bool) {
	if p.storing > 0 || (p.offered != "" && now.Before(p.until)) {
		return p.offered, true
	}
	if p.lease.State != "" && now.Before(p.lease.Expires) {
		if p.lease.State == fleet.LeaseBound {
			return p.lease.MAC, true
		}
		return "", true
	}
	return "", false
}

func (p *place) freeFor(mac fleet.MAC, now time.Time) bool {
	holder, busy := p.holder(now)
	return !busy || holder == mac
}

// freeAt returns when the address can be given to anybody.
func (p *place) freeAt() time.Time {
	at := p.lease.Expires
	if p.offered != "" && p.until.After(at) {
		at = p.until
	}
	return at
}

// A client is who asks for an address, as far as it matters for which one it
// gets.
type client struct {
	mac   fleet.MAC
	known bool       // somebody approved it, or reserved something for it
	own   netip.Addr // the address that its node has on record, or that is reserved for it
	fixed bool       // own is reserved for it: it gets no other
	shelf int        // of its class
}

// A ledger is the addresses of one subnet. Every operation takes the same time
// with ten leases as with a million, but for the heap's logarithm.
type ledger struct {
	net      *network
	never    map[netip.Addr]bool // router and the like: given to nobody
	reserved map[netip.Addr]bool // given to one client only
	byAddr   map[netip.Addr]*place
	byMAC    map[fleet.MAC]*place // by holder of the lease on disk
	offers   map[fleet.MAC]*place // by whom the address is offered to
	byID     map[string]*place    // by client identifier, of those that are not the MAC once more
	shelves  []*shelf
}

func newLedger(n *network, own map[netip.Addr]bool) *ledger {
	l := &ledger{
		net: n, never: make(map[netip.Addr]bool), reserved: make(map[netip.Addr]bool), byAddr: make(map[netip.Addr]*place),
		byMAC: make(map[fleet.MAC]*place), offers: make(map[fleet.MAC]*place), byID: make(map[string]*place),
	}
	for a := range own {
		l.never[a] = true
	}
	for _, a := range append([]netip.Addr{n.Router, n.Server, n.CIDR.Masked().Addr(), broadcastOf(n.CIDR)}, n.DNS...) {
		l.never[a] = true
	}
	for _, r := range n.Reservations {
		l.reserved[r.Addr] = true
	}
	l.shelves = []*shelf{l.newShelf("", n.Ranges)}
	for _, c := range n.classes {
		if c.shelf > 0 {
			l.shelves = append(l.shelves, l.newShelf(c.Name, c.Ranges))
		}
	}
	return l
}

// broadcastOf returns the last address of a network.
func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// shelfOf returns the shelf of an address that we give to anybody; nil when it
// is none.
func (l *ledger) shelfOf(a netip.Addr) *shelf {
	if l.never[a] || l.reserved[a] {
		return nil
	}
	for _, sh := range l.shelves {
		if sh.contains(a) {
			return sh
		}
	}
	return nil
}

// mayHave reports whether a client may have this address at all. Where a
// subnet serves known nodes only, the address that a node has on record may
// lie outside of the ranges.
func (l *ledger) mayHave(a netip.Addr, c *client) bool {
	switch {
	case c.fixed:
		return a == c.own && l.net.CIDR.Contains(a)
	case l.shelfOf(a) == l.shelves[c.shelf]:
		return true
	default:
		return l.net.Mode == fleet.Reserved && a == c.own && l.net.CIDR.Contains(a) && !l.never[a] && !l.reserved[a]
	}
}

// choose finds an address for a client: the one it was offered, the one it has
// or had, the one it asks for, its own by declaration, and at last one of its
// shelf.
func (l *ledger) choose(c *client, wanted netip.Addr, now time.Time) (*place, refusal) {
	for _, p := range []*place{l.offers[c.mac], l.byMAC[c.mac]} {
		if p != nil && l.mayHave(p.addr, c) && p.freeFor(c.mac, now) {
			return p, served
		}
	}
	sh := l.shelves[c.shelf]
	room := c.known || sh.strangers < sh.share
	for _, a := range []netip.Addr{wanted, c.own} {
		if !room || !a.IsValid() || !l.mayHave(a, c) {
			continue
		}
		if p := l.byAddr[a]; p == nil || p.lease.State == "" && p.freeFor(c.mac, now) {
			return l.place(a, !c.known), served
		}
	}
	if p := l.byAddr[c.own]; p != nil && (c.fixed || l.net.Mode == fleet.Reserved) && l.mayHave(c.own, c) && p.freeFor(c.mac, now) {
		return p, served
	}
	if c.fixed {
		return nil, refusedReserved
	}
	return l.next(sh, c, now)
}

// place returns the place of an address, a new one if need be.
func (l *ledger) place(a netip.Addr, stranger bool) *place {
	if p := l.byAddr[a]; p != nil {
		return p
	}
	p := &place{addr: a, index: -1, shelf: l.shelfOf(a), stranger: stranger}
	l.byAddr[a] = p
	if p.shelf != nil {
		p.shelf.add(p)
	}
	return p
}

func (p *place) reschedule(at time.Time) {
	p.due = at
	if p.shelf != nil {
		p.shelf.fix(p)
	}
}

// hold keeps a place for a client for a while.
func (l *ledger) hold(p *place, c *client, until time.Time) {
	if old := l.offers[c.mac]; old != nil && old != p {
		l.letGo(old)
	}
	if p.offered != c.mac {
		l.letGo(p)
	}
	if p.stranger == c.known && p.shelf != nil {
		p.shelf.mark(p, !c.known)
	}
	p.offered, p.until = c.mac, until
	l.offers[c.mac] = p
	if p.lease.State == "" || p.lease.Expires.Before(until) {
		p.reschedule(until)
	}
}

// letGo takes an offer back.
func (l *ledger) letGo(p *place) {
	if p.offered != "" && l.offers[p.offered] == p {
		delete(l.offers, p.offered)
	}
	p.offered = ""
	p.reschedule(p.freeAt())
}

// put enters a lease that is on disk now. The client's former lease on this
// subnet ends, on disk as in here.
func (l *ledger) put(lease fleet.Lease) *place {
	p := l.place(lease.Addr, false)
	if p.lease.State != "" && l.byMAC[p.lease.MAC] == p {
		delete(l.byMAC, p.lease.MAC)
	}
	if old := l.byMAC[lease.MAC]; old != nil && lease.State == fleet.LeaseBound {
		l.count(old, fleet.Lease{})
		old.reschedule(old.freeAt())
	}
	l.count(p, lease)
	switch {
	case lease.State == fleet.LeaseBound:
		l.byMAC[lease.MAC] = p
	case lease.State == fleet.LeaseReleased && l.byMAC[lease.MAC] == nil:
		l.byMAC[lease.MAC] = p // it may have it back
	}
	if p.offered == lease.MAC && p.storing == 0 {
		l.letGo(p)
	} else {
		p.reschedule(p.freeAt())
	}
	return p
}

// count gives a place another lease, and counts both.
func (l *ledger) count(p *place, lease fleet.Lease) {
	if p.shelf != nil {
		p.shelf.inUse.add(p.lease, -1)
		p.shelf.inUse.add(lease, 1)
	}
	if hasOwnID(p.lease) && l.byID[p.lease.ClientID] == p {
		delete(l.byID, p.lease.ClientID)
	}
	if hasOwnID(lease) {
		l.byID[lease.ClientID] = p
	}
	p.lease = lease
}

// hasOwnID reports whether a client identifies itself by more than its
// hardware type and MAC. Nearly nobody does.
func hasOwnID(l fleet.Lease) bool {
	const of = len("01525400000001")
	if len(l.ClientID) != of || len(l.MAC) != 17 || l.ClientID[:2] != "01" {
		return l.ClientID != ""
	}
	for i := range 6 {
		if l.ClientID[2+2*i:4+2*i] != string(l.MAC[3*i:3*i+2]) {
			return true
		}
	}
	return false
}

// quarantine keeps an address from everybody for a while: somebody whom we do
// not know is there.
func (l *ledger) quarantine(p *place, until time.Time) {
	l.letGo(p)
	if l.byMAC[p.lease.MAC] == p {
		delete(l.byMAC, p.lease.MAC)
	}
	l.count(p, fleet.Lease{Addr: p.addr, Subnet: l.net.Name, State: fleet.LeaseDeclined, Expires: until})
	p.reschedule(until)
}
