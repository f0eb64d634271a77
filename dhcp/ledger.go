package dhcp

import (
	"container/heap"
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

	due   time.Time // never later than freeAt: see ledger.oldest
	index int       // in the heap; -1 when the address is outside of the ranges
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

// A ledger is the addresses of one subnet. Every operation takes the same time
// with ten leases as with a million, but for the heap's logarithm.
type ledger struct {
	subnet   fleet.Subnet
	never    map[netip.Addr]bool // router and the like: given to nobody
	byAddr   map[netip.Addr]*place
	byMAC    map[fleet.MAC]*place // by holder of the lease on disk
	offers   map[fleet.MAC]*place // by whom the address is offered to
	due      places
	rangeNo  int        // range and address of it that were never given yet
	nextAddr netip.Addr // invalid: the start of the range
}

func newLedger(n fleet.Subnet, own map[netip.Addr]bool) *ledger {
	l := &ledger{
		subnet: n, never: make(map[netip.Addr]bool), byAddr: make(map[netip.Addr]*place),
		byMAC: make(map[fleet.MAC]*place), offers: make(map[fleet.MAC]*place),
	}
	for a := range own {
		l.never[a] = true
	}
	for _, a := range append([]netip.Addr{n.Router, n.Server, n.CIDR.Masked().Addr(), broadcastOf(n.CIDR)}, n.DNS...) {
		l.never[a] = true
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

// inRange reports whether the address is one that we give to anybody.
func (l *ledger) inRange(a netip.Addr) bool {
	if l.never[a] {
		return false
	}
	for _, r := range l.subnet.Ranges {
		if !a.Less(r.First) && !r.Last.Less(a) {
			return true
		}
	}
	return false
}

// mayHave reports whether a client may have this address at all. own is the
// address that its node is declared to have; where a subnet serves known nodes
// only, that may lie outside of the ranges.
func (l *ledger) mayHave(a, own netip.Addr) bool {
	if l.inRange(a) {
		return true
	}
	return l.subnet.Mode == fleet.Reserved && a == own && l.subnet.CIDR.Contains(a) && !l.never[a]
}

// choose finds an address for a client: the one it was offered, the one it
// has or had, the one it asks for, its own by declaration, one that nobody
// ever had, and at last the one that has been free for longest.
func (l *ledger) choose(mac fleet.MAC, wanted, own netip.Addr, now time.Time) (*place, bool) {
	for _, p := range []*place{l.offers[mac], l.byMAC[mac]} {
		if p != nil && l.mayHave(p.addr, own) && p.freeFor(mac, now) {
			return p, true
		}
	}
	for _, a := range []netip.Addr{wanted, own} {
		if a.IsValid() && l.byAddr[a] == nil && l.mayHave(a, own) {
			return l.place(a), true
		}
	}
	if p := l.byAddr[own]; p != nil && l.subnet.Mode == fleet.Reserved && l.mayHave(own, own) && p.freeFor(mac, now) {
		return p, true
	}
	if a, ok := l.fresh(); ok {
		return l.place(a), true
	}
	return l.oldest(now)
}

// place returns the place of an address, a new one if need be.
func (l *ledger) place(a netip.Addr) *place {
	if p := l.byAddr[a]; p != nil {
		return p
	}
	p := &place{addr: a, index: -1}
	l.byAddr[a] = p
	if l.inRange(a) {
		heap.Push(&l.due, p)
	}
	return p
}

// fresh returns the next address that nobody ever had.
func (l *ledger) fresh() (netip.Addr, bool) {
	for l.rangeNo < len(l.subnet.Ranges) {
		r := l.subnet.Ranges[l.rangeNo]
		if !l.nextAddr.IsValid() {
			l.nextAddr = r.First
		}
		for a := l.nextAddr; a.IsValid() && !r.Last.Less(a); a = a.Next() {
			if l.byAddr[a] == nil && !l.never[a] {
				l.nextAddr = a.Next()
				return a, true
			}
		}
		l.rangeNo++
		l.nextAddr = netip.Addr{}
	}
	return netip.Addr{}, false
}

// oldest returns the address that has been free for longest. Renewals do not
// touch the heap: a place's due time may be too early and is put right here,
// when it comes to the top.
func (l *ledger) oldest(now time.Time) (*place, bool) {
	for len(l.due) > 0 {
		p := l.due[0]
		if p.due.After(now) {
			return nil, false
		}
		switch at := p.freeAt(); {
		case p.storing > 0:
			l.reschedule(p, now.Add(offerTime))
		case at.After(now):
			l.reschedule(p, at)
		default:
			return p, true
		}
	}
	return nil, false
}

func (l *ledger) reschedule(p *place, at time.Time) {
	p.due = at
	if p.index >= 0 {
		heap.Fix(&l.due, p.index)
	}
}

// hold keeps a place for a client for a while.
func (l *ledger) hold(p *place, mac fleet.MAC, until time.Time) {
	if old := l.offers[mac]; old != nil && old != p {
		l.letGo(old)
	}
	if p.offered != mac {
		l.letGo(p)
	}
	p.offered, p.until = mac, until
	l.offers[mac] = p
	if p.lease.State == "" || p.lease.Expires.Before(until) {
		l.reschedule(p, until)
	}
}

// letGo takes an offer back.
func (l *ledger) letGo(p *place) {
	if p.offered != "" && l.offers[p.offered] == p {
		delete(l.offers, p.offered)
	}
	p.offered = ""
	l.reschedule(p, p.freeAt())
}

// put enters a lease that is on disk now. The client's former lease on this
// subnet ends, on disk as in here.
func (l *ledger) put(lease fleet.Lease) {
	p := l.place(lease.Addr)
	if p.lease.State != "" && l.byMAC[p.lease.MAC] == p {
		delete(l.byMAC, p.lease.MAC)
	}
	if old := l.byMAC[lease.MAC]; old != nil && lease.State == fleet.LeaseBound {
		old.lease = fleet.Lease{}
		l.reschedule(old, old.freeAt())
	}
	p.lease = lease
	switch {
	case lease.State == fleet.LeaseBound:
		l.byMAC[lease.MAC] = p
	case lease.State == fleet.LeaseReleased && l.byMAC[lease.MAC] == nil:
		l.byMAC[lease.MAC] = p // it may have it back
	}
	if p.offered == lease.MAC && p.storing == 0 {
		l.letGo(p)
	} else {
		l.reschedule(p, p.freeAt())
	}
}

// places is a heap of places, the one that is due first on top.
type places []*place

func (h places) Len() int           { return len(h) }
func (h places) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h places) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *places) Push(x any) {
	p := x.(*place) //nolint:forcetypeassert // nothing else is pushed
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop implements [heap.Interface]; nothing is ever popped.
func (h *places) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.index = -1
	return last
}
