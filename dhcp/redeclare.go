package dhcp

import (
	"container/heap"
	"maps"
	"net/netip"
	"slices"
)

// hasShelvesOf reports whether a ledger has the ranges of another one, so that it
// can go on. Who asks holds declaring, or mu.
func (l *ledger) hasShelvesOf(next *ledger) bool {
	return slices.EqualFunc(l.shelves, next.shelves, func(a, b *shelf) bool { return a.class == b.class && slices.Equal(a.spans, b.spans) })
}

// redeclare goes on as a ledger of what a network is declared as now, with the
// ranges that it had. It takes as long as there are addresses that are set aside,
// or no more, however many leases there are.
func (l *ledger) redeclare(n *network, own map[netip.Addr]bool) {
	never, reserved := setAside(n, own)
	next := &ledger{net: n, never: never, reserved: reserved}
	for i, sh := range next.newShelves() {
		l.shelves[i].size, l.shelves[i].share = sh.size, sh.share
	}
	before := maps.Clone(l.never)
	maps.Copy(before, l.reserved)
	l.net, l.never, l.reserved = n, never, reserved
	maps.Copy(before, never)
	maps.Copy(before, reserved)
	for ip := range before {
		l.reshelve(ip)
	}
}

// reshelve puts the place of an address on the shelf that it belongs to now.
func (l *ledger) reshelve(ip uint32) {
	p, shelf := l.byAddr.at(ip), l.shelfOf(ip)
	if p == nil {
		if shelf != noShelf {
			l.place(ip, false, 0) // where [ledger.fresh] may be past
		}
		return
	}
	if p.shelf == shelf {
		return
	}
	if sh := l.shelf(p); sh != nil {
		sh.remove(p)
	}
	p.shelf = shelf
	if sh := l.shelf(p); sh != nil {
		sh.add(p)
		sh.inUse.add(p.lease, 1)
	}
}

// remove takes a place off a shelf, with what is counted of it.
func (sh *shelf) remove(p *place) {
	heap.Remove(&sh.due[heapOf(p.stranger)], int(p.index))
	if p.stranger {
		sh.strangers--
	}
	sh.inUse.add(p.lease, -1)
	sh.stock = slices.DeleteFunc(sh.stock, func(q *place) bool { return q == p })
}
