package dhcp

import (
	"maps"
	"slices"
)

// Other ranges of a network want another ledger: each place has to be looked at,
// and there may be a million. It is made beside the old one, which serves
// meanwhile, and says which of its places have changed since they were copied
// (see [ledger.touch]). The book is locked for a block of places at a time, and at
// last for the few that have changed while the former were copied.

const (
	copiesEach  = 1 << blockBits // places are copied at a time
	roundsMost  = 16             // of catching up: each is shorter than the one before it
	changesLeft = copiesEach     // are few enough for the last step
)

// A rebuild makes a new ledger of an old one.
type rebuild struct {
	book     *book
	old, new *ledger
	copies   []placeCopy
}

// A placeCopy is a place of the old ledger, with what that knows of it.
type placeCopy struct {
	place
	names                 names
	held, offered, called bool // the ledger finds it by its MAC, by who it is offered to, by its client identifier
}

// rebuild begins; from now on the old ledger says what changes. The caller holds
// declaring.
func (b *book) rebuild(old, next *ledger) *rebuild {
	b.mu.Lock()
	defer b.mu.Unlock()
	old.dirty = make(map[uint32]struct{})
	return &rebuild{book: b, old: old, new: next}
}

// run copies all places, and then those that have changed, until they are few.
func (r *rebuild) run() {
	for _, at := range r.book.blocksOf(r.old) {
		r.copyBlock(at)
	}
	for range roundsMost {
		if !r.catchUp() {
			break
		}
	}
	for _, sh := range r.new.shelves {
		r.new.skip(sh)
	}
}

func (r *rebuild) copyBlock(at uint32) {
	r.copies = r.copies[:0]
	r.book.mu.Lock()
	for _, p := range r.old.byAddr.all[at] {
		if p != nil {
			r.copies = append(r.copies, r.old.copyOf(p))
		}
	}
	r.book.mu.Unlock()
	r.adopt()
}

// catchUp copies what has changed. It is false when that was little.
func (r *rebuild) catchUp() bool {
	r.book.mu.Lock()
	dirty := r.old.dirty
	r.old.dirty = make(map[uint32]struct{})
	r.book.mu.Unlock()
	changed := slices.Collect(maps.Keys(dirty))
	for some := range slices.Chunk(changed, copiesEach) {
		r.book.mu.Lock()
		r.copyPlaces(some)
		r.book.mu.Unlock()
		r.adopt()
	}
	return len(changed) > changesLeft
}

// finish copies the last changes: the new ledger knows what the old one does. The
// caller holds the book's lock, and from then on asks the new one.
func (r *rebuild) finish() *ledger {
	r.copyPlaces(slices.Collect(maps.Keys(r.old.dirty)))
	r.old.dirty = nil
	r.adopt()
	for _, sh := range r.old.shelves {
		for _, to := range r.new.shelves {
			if to.class == sh.class { // of other ranges: the forecast goes on
				to.history, to.lastUse = sh.history, sh.lastUse
			}
		}
		for _, p := range sh.stock {
			q := r.new.byAddr.at(p.ip)
			if to := r.new.shelf(q); to != nil && len(to.stock) < stockSize {
				to.stock = append(to.stock, q)
			}
		}
	}
	return r.new
}

func (r *rebuild) copyPlaces(ips []uint32) {
	r.copies = r.copies[:0]
	for _, ip := range ips {
		r.copies = append(r.copies, r.old.copyOf(r.old.byAddr.at(ip)))
	}
}

func (r *rebuild) adopt() {
	for i := range r.copies {
		r.new.adopt(&r.copies[i])
	}
}

func (l *ledger) copyOf(p *place) placeCopy {
	n := l.names[p.ip]
	return placeCopy{
		place: *p, names: n, held: l.byMAC[p.lease.mac] == p.ip,
		offered: p.offered != hwaddr{} && l.offers[p.offered] == p, called: n.id != "" && l.byID[n.id] == p,
	}
}

// adopt makes the place of an address what it is in another ledger.
func (l *ledger) adopt(c *placeCopy) {
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
