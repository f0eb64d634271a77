package dhcp6

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// As on IPv4, the ledgers of other networks are made beside the old ones, which
// serve meanwhile and say which of their places have changed since they were
// copied (see [ledger.touch]). The book is locked for some places at a time, and at
// last for the few that have changed. Where only ranges, reservations or the like
// change, a ledger stays what it is, with all its places: see [ledger.redeclare].

const (
	copiesEach = 256 // places are copied at a time
	roundsMost = 16  // of catching up: each is shorter than the one before it
)

// A rebuild makes new ledgers of old ones. What is in none of them becomes an
// orphan, and what was one goes into the new ledger of its network.
type rebuild struct {
	book      *book
	old, anew []*ledger
	orphans   map[netip.Addr]orphan // that there will be; nil: no network comes or goes

	// Associations of which two places were seen in one ledger: they had an
	// address in two networks that are one now, or got another one meanwhile.
	twice map[guest][]*place
}

// A guest is an association of a ledger.
type guest struct {
	of  *ledger
	key iaKey
}

// A placeCopy is a place of an old ledger, with what that knows of it.
type placeCopy struct {
	place
	leased, offered, last bool // the ledger finds it by its lease, by its offer, by the machine that had it last
	gone                  bool // it is forgotten
}

// rebuild begins; from now on the old ledgers say what changes. The caller holds
// declaring.
func (b *book) rebuild(old, anew []*ledger) *rebuild {
	r := &rebuild{book: b, old: old, anew: anew, twice: make(map[guest][]*place)}
	if len(old)+len(anew) == 0 {
		return r
	}
	r.orphans = make(map[netip.Addr]orphan)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range old {
		l.dirty = make(map[netip.Addr]struct{})
	}
	b.touched = make(map[netip.Addr]struct{})
	return r
}

// run copies all places, and then those that have changed, until they are few.
func (r *rebuild) run() {
	if r.orphans == nil {
		return
	}
	for _, l := range r.old {
		inSteps(r.book, l.byAddr, func(p *place) placeCopy { return l.copyOf(p.addr) }, r.adopt)
	}
	inSteps(r.book, r.book.orphans, func(o orphan) orphan { return o }, r.takeIn)
	for range roundsMost {
		if !r.catchUp() {
			break
		}
	}
}

// inSteps copies what a map of the book's has, to which others may add meanwhile.
func inSteps[V, C any](b *book, from map[netip.Addr]V, copyOf func(V) C, adopt func([]C)) {
	some := make([]C, 0, copiesEach)
	b.mu.Lock()
	for _, v := range from {
		if some = append(some, copyOf(v)); len(some) == copiesEach {
			b.mu.Unlock()
			adopt(some)
			some = some[:0]
			b.mu.Lock()
		}
	}
	b.mu.Unlock()
	adopt(some)
}

// catchUp copies what has changed. It is false when that was little.
func (r *rebuild) catchUp() bool {
	changes := 0
	for _, l := range r.old {
		r.book.mu.Lock()
		dirty := l.dirty
		l.dirty = make(map[netip.Addr]struct{})
		r.book.mu.Unlock()
		inSteps(r.book, addrsOf(dirty), l.copyOf, r.adopt)
		changes += len(dirty)
	}
	return changes > copiesEach
}

func addrsOf(set map[netip.Addr]struct{}) map[netip.Addr]netip.Addr {
	out := make(map[netip.Addr]netip.Addr, len(set))
	for a := range set {
		out[a] = a
	}
	return out
}

// finish copies the last changes: the new ledgers know what the old ones do. The
// caller holds the book's lock, and from then on asks the new ones.
func (r *rebuild) finish() {
	if r.orphans == nil {
		return
	}
	for _, l := range r.old {
		for a := range maps.Keys(l.dirty) {
			r.adopt([]placeCopy{l.copyOf(a)})
		}
		l.dirty = nil
	}
	for a := range r.book.touched {
		r.takeIn([]orphan{r.book.orphans[a]})
	}
	r.book.orphans, r.book.touched = r.orphans, nil
	r.decide()
}

// adopt puts what was copied where it belongs.
func (r *rebuild) adopt(copies []placeCopy) {
	for i := range copies {
		c := &copies[i]
		switch l := ledgerIn(r.anew, c.addr); {
		case l != nil:
			r.enter(l, c)
		case c.gone || c.lease.State == "":
			delete(r.orphans, c.addr)
		default:
			r.orphans[c.addr] = orphan{c.lease, c.unknown}
		}
	}
}

// takeIn puts orphans where they belong.
func (r *rebuild) takeIn(some []orphan) {
	for _, o := range some {
		l := ledgerIn(r.anew, o.lease.Addr)
		if l == nil {
			r.orphans[o.lease.Addr] = o
			continue
		}
		found := o.lease.State != fleet.LeaseDeclined
		r.enter(l, &placeCopy{place: place{addr: o.lease.Addr, lease: o.lease, unknown: o.unknown}, leased: found, last: found})
	}
}

func (r *rebuild) enter(l *ledger, c *placeCopy) {
	if other := l.adopt(c); other != nil {
		g := guest{l, clientOf(c.lease).key()}
		r.twice[g] = append(r.twice[g], other, l.byAddr[c.addr])
	}
}

// decide ends, when all is known, what an association has twice in one network,
// but for the lease that lasts longest.
func (r *rebuild) decide() {
	for g, all := range r.twice {
		slices.SortFunc(all, func(a, b *place) int { return a.addr.Compare(b.addr) })
		all = slices.DeleteFunc(slices.Compact(all), func(p *place) bool { return p.lease.State != fleet.LeaseBound || clientOf(p.lease).key() != g.key })
		if len(all) < 2 {
			continue // it got another one meanwhile
		}
		last := slices.MaxFunc(all, func(a, b *place) int { return a.lease.Expires.Compare(b.lease.Expires) })
		g.of.byIA[g.key], g.of.byMachine[clientOf(last.lease).machine()] = last, last
		for _, p := range all {
			if p != last {
				p.lease = fleet.Lease6{}
			}
		}
	}
	clear(r.twice)
}

func (l *ledger) copyOf(a netip.Addr) placeCopy {
	p := l.byAddr[a]
	if p == nil {
		return placeCopy{place: place{addr: a}, gone: true}
	}
	c := clientOf(p.lease)
	return placeCopy{place: *p, leased: l.byIA[c.key()] == p, offered: l.byIA[p.held.key()] == p, last: l.byMachine[c.machine()] == p}
}

// adopt makes the place of an address what it is in another ledger. It returns
// the place that the association had here before, if that is another one.
func (l *ledger) adopt(c *placeCopy) (other *place) {
	p := l.place(c.addr)
	l.unlink(p)
	if c.gone {
		delete(l.byAddr, c.addr)
		return nil
	}
	*p = c.place
	lease := clientOf(p.lease)
	if c.leased {
		if other = l.byIA[lease.key()]; other != nil && clientOf(other.lease).key() != lease.key() {
			other = nil
		}
		l.byIA[lease.key()] = p
	}
	if c.offered {
		l.byIA[p.held.key()] = p
	}
	if c.last {
		l.byMachine[lease.machine()] = p
	}
	return other
}

// redeclare goes on as a ledger of what a subnet is declared as now, whose
// addresses are the same. It takes no longer with many leases than with few.
func (l *ledger) redeclare(n fleet.Subnet, own map[netip.Addr]bool) {
	next := newLedger(n, own)
	l.subnet, l.never, l.reserved, l.byMAC, l.pool = n, next.never, next.reserved, next.byMAC, next.pool
	l.use.size, l.counted = next.use.size, next.counted
}

// touch notes that a place changes, for the ledger that is made beside this one.
func (l *ledger) touch(a netip.Addr) {
	if l.dirty != nil {
		l.dirty[a] = struct{}{}
	}
}
