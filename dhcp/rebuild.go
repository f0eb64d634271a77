package dhcp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Another network, or other ranges of one, want another ledger: each place has to
// be looked at, and there may be a million. New ledgers are made beside the old
// ones, which serve meanwhile, and say which of their places have changed since
// they were copied (see [ledger.touch]). The book is locked for a block of places
// at a time, and at last for the few that have changed while the former were copied.

const (
	copiesEach  = 1 << blockBits // places are copied at a time
	roundsMost  = 16             // of catching up: each is shorter than the one before it
	changesLeft = copiesEach     // are few enough for the last step
)

// A rebuild makes new ledgers of old ones. An address goes into the new one of its
// network; what is in none becomes an orphan, and what was one goes into the new
// ledger of its network.
type rebuild struct {
	book    *book
	old     []*ledger
	anew    []*ledger // by first address of their networks
	copies  []placeCopy
	orphans map[netip.Addr]orphan // that there will be

	// Clients of whom two places were seen in one ledger: they had an address in
	// two networks that are one now, or got another one meanwhile.
	twice  map[guest][]*place
	silent map[uint32]hwaddr // what [ledger.silent] shall know of those
}

// A guest is a client of a ledger.
type guest struct {
	of  *ledger
	mac hwaddr
}

// A placeCopy is a place of the old ledger, with what that knows of it.
type placeCopy struct {
	place
	names                 names
	held, offered, called bool // the ledger finds it by its MAC, by who it is offered to, by its client identifier
}

// rebuild begins; from now on the old ledgers say what changes. The caller holds
// declaring.
func (b *book) rebuild(old, anew []*ledger) *rebuild {
	r := &rebuild{book: b, old: old, anew: anew, twice: make(map[guest][]*place), silent: make(map[uint32]hwaddr)}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range old {
		l.dirty = make(map[uint32]struct{})
	}
	if !slices.EqualFunc(old, anew, func(a, b *ledger) bool { return a.net.CIDR == b.net.CIDR }) {
		r.orphans = make(map[netip.Addr]orphan)
		b.touched = make(map[netip.Addr]struct{})
	}
	return r
}

// run copies all places, and then those that have changed, until they are few.
func (r *rebuild) run() {
	for _, l := range r.old {
		for _, at := range r.book.blocksOf(l) {
			r.copyBlock(l, at)
		}
	}
	r.copyOrphans()
	for range roundsMost {
		if !r.catchUp() {
			break
		}
	}
	for _, l := range r.anew {
		for _, sh := range l.shelves {
			l.skip(sh)
		}
	}
}

func (r *rebuild) copyBlock(from *ledger, at uint32) {
	r.copies = r.copies[:0]
	r.book.mu.Lock()
	if bl := from.byAddr.all[at]; bl != nil {
		for _, p := range bl {
			if p != nil {
				r.copies = append(r.copies, from.copyOf(p))
			}
		}
	}
	r.book.mu.Unlock()
	r.adopt(from)
}

// copyOrphans copies the leases that have no ledger. Others may come meanwhile.
func (r *rebuild) copyOrphans() {
	if r.orphans == nil {
		return
	}
	some := make([]orphan, 0, copiesEach)
	r.book.mu.Lock()
	for _, o := range r.book.orphans {
		if some = append(some, o); len(some) == copiesEach {
			r.book.mu.Unlock()
			r.takeIn(some)
			some = some[:0]
			r.book.mu.Lock()
		}
	}
	r.book.mu.Unlock()
	r.takeIn(some)
}

// catchUp copies what has changed. It is false when that was little.
func (r *rebuild) catchUp() bool {
	changes := 0
	for _, l := range r.old {
		r.book.mu.Lock()
		dirty := l.dirty
		l.dirty = make(map[uint32]struct{})
		r.book.mu.Unlock()
		changed := slices.Collect(maps.Keys(dirty))
		for some := range slices.Chunk(changed, copiesEach) {
			r.book.mu.Lock()
			r.copyPlaces(l, some)
			r.book.mu.Unlock()
			r.adopt(l)
		}
		changes += len(changed)
	}
	return changes > changesLeft
}

// finish copies the last changes: the new ledgers know what the old ones do. The
// caller holds the book's lock, and from then on asks the new ones.
func (r *rebuild) finish() {
	for _, l := range r.old {
		r.copyPlaces(l, slices.Collect(maps.Keys(l.dirty)))
		l.dirty = nil
		r.adopt(l)
	}
	if r.orphans != nil {
		for a := range r.book.touched {
			r.takeIn([]orphan{r.book.orphans[a]})
		}
		r.book.orphans, r.book.touched = r.orphans, nil
	}
	r.decide()
	maps.Copy(r.book.silent, r.silent)
	for _, from := range r.old {
		for _, to := range r.anew {
			if from.net.CIDR == to.net.CIDR || from.net.Name == to.net.Name {
				to.goOn(from)
			}
		}
	}
}

// goOn takes over what is known of the shelves of a ledger of other ranges, or of
// another size: the forecast goes on, and nobody is asked again.
func (l *ledger) goOn(from *ledger) {
	for _, sh := range from.shelves {
		for _, to := range l.shelves {
			if to.class == sh.class {
				to.history, to.lastUse = sh.history, sh.lastUse
			}
		}
		for _, p := range sh.stock {
			q := l.byAddr.at(p.ip)
			if q == nil {
				continue // in another network now
			}
			if to := l.shelf(q); to != nil && len(to.stock) < stockSize {
				to.stock = append(to.stock, q)
			}
		}
	}
}

func (r *rebuild) copyPlaces(from *ledger, ips []uint32) {
	r.copies = r.copies[:0]
	for _, ip := range ips {
		r.copies = append(r.copies, from.copyOf(from.byAddr.at(ip)))
	}
}

// adopt puts what was copied where it belongs.
func (r *rebuild) adopt(from *ledger) {
	for i := range r.copies {
		c := &r.copies[i]
		switch l := ledgerIn(r.anew, c.addr()); {
		case l != nil:
			r.enter(l, c)
		case c.lease.state != noLease:
			r.orphans[c.addr()] = orphan{from.write(&c.place, c.names), c.stranger}
		default:
			delete(r.orphans, c.addr())
		}
	}
}

// takeIn puts orphans where they belong.
func (r *rebuild) takeIn(some []orphan) {
	for i := range some {
		o := &some[i]
		l := ledgerIn(r.anew, o.Addr)
		if l == nil {
			r.orphans[o.Addr] = *o
			continue
		}
		t, n := l.tenure(&o.Lease)
		r.enter(l, &placeCopy{
			place: place{ip: number(o.Addr), lease: t, stranger: o.stranger, due: t.expires}, names: n,
			held: t.state == leaseBound || t.state == leaseReleased, called: n.id != "",
		})
	}
}

func (r *rebuild) enter(l *ledger, c *placeCopy) {
	delete(r.silent, c.ip)
	if other := l.adopt(c); other != nil {
		g := guest{l, c.lease.mac}
		r.twice[g] = append(r.twice[g], other, l.byAddr.at(c.ip))
	}
}

// decide ends, when all is known, what a client has twice in one network, but for
// the lease that lasts longest: it has one address on each. Of several that it gave back, the
// last is remembered.
func (r *rebuild) decide() {
	for g, all := range r.twice {
		l, mac := g.of, g.mac
		slices.SortFunc(all, func(a, b *place) int { return cmp.Compare(a.ip, b.ip) })
		all = slices.DeleteFunc(slices.Compact(all), func(p *place) bool {
			return p.lease.mac != mac || p.lease.state != leaseBound && p.lease.state != leaseReleased
		})
		if len(all) < 2 {
			continue // it got another one meanwhile
		}
		last := slices.MaxFunc(all, func(a, b *place) int {
			return cmp.Or(cmp.Compare(b.lease.state, a.lease.state), cmp.Compare(a.lease.expires, b.lease.expires), cmp.Compare(a.ip, b.ip)) // bound is less than released
		})
		l.byMAC[mac] = last.ip
		for _, p := range all {
			if p != last && p.lease.state == leaseBound {
				r.silent[p.ip] = mac
				l.enter(p, tenure{}, names{})
				l.reschedule(p, p.freeAt())
			}
		}
	}
	clear(r.twice)
}

func (l *ledger) copyOf(p *place) placeCopy {
	n := l.names[p.ip]
	return placeCopy{
		place: *p, names: n, held: l.byMAC[p.lease.mac] == p.ip,
		offered: p.offered != hwaddr{} && l.offers[p.offered] == p, called: n.id != "" && l.byID[n.id] == p,
	}
}

// adopt makes the place of an address what it is in another ledger. It returns
// the place that the client had here before, if that is another one.
func (l *ledger) adopt(c *placeCopy) (other *place) {
	p := l.place(c.ip, c.stranger, c.due)
	if sh := l.shelf(p); sh != nil {
		sh.mark(p, c.stranger)
	}
	if l.byMAC[p.lease.mac] == p.ip {
		delete(l.byMAC, p.lease.mac)
	}
	if l.offers[p.offered] == p {
		delete(l.offers, p.offered)
	}
	calls := l.byID[c.names.id]
	l.enter(p, c.lease, c.names)
	if c.held {
		if other = l.heldBy(c.lease.mac); other == p || other != nil && other.lease.mac != c.lease.mac {
			other = nil
		}
		l.byMAC[c.lease.mac] = p.ip
	}
	if c.offered {
		l.offers[c.place.offered] = p
	}
	if !c.called && calls != nil && calls != p {
		l.byID[c.names.id] = calls
	}
	p.stranger, p.storing, p.probing = c.stranger, c.storing, c.probing
	p.offered, p.until, p.checked = c.place.offered, c.until, c.checked
	l.reschedule(p, c.due)
	return other
}

// skip moves past the addresses of a shelf that somebody had: there may be a
// million.
func (l *ledger) skip(sh *shelf) {
	if ip, ok := l.fresh(sh); ok {
		sh.nextIP = ip
	}
}

// touch notes that a place changes, for the ledger that is made beside this one.
func (l *ledger) touch(p *place) {
	if l.dirty != nil {
		l.dirty[p.ip] = struct{}{}
	}
}
