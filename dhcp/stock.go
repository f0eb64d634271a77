package dhcp

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	stockSize  = 8                // addresses of each shelf where nobody is: a client waits for no probe
	provenTime = time.Minute      // for so long we believe that nobody is there
	againAfter = 40 * time.Second // then it is asked again
	stockAfter = 10 * time.Minute // shelves behind a relay are stocked so long after somebody asked
)

// fromStock returns an address where nobody answered lately.
func (l *ledger) fromStock(sh *shelf, now instant) *place {
	for len(sh.stock) > 0 {
		p := sh.stock[0]
		sh.stock = sh.stock[1:]
		if sh.fit(p, now) && now.since(p.checked) <= provenTime {
			return p
		}
	}
	return nil
}

// fit reports whether an address can stay in stock.
func (sh *shelf) fit(p *place, now instant) bool {
	_, busy := p.holder(now)
	return !busy && !p.stranger && p.lease.expires <= now
}

// restock returns the addresses that should be asked next, so that there are
// some in stock where clients may come. isNear says which networks are our own
// wire: those are stocked before anybody comes.
func (b *book) restock(isNear func(*network) bool) (ask []probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.instant()
	for _, l := range b.ledgers {
		if l.net.Mode != fleet.Full || l.net.NoProbe {
			continue
		}
		near := isNear(l.net)
		for _, sh := range l.shelves {
			if near || now.since(sh.lastUse) < stockAfter {
				ask = append(ask, l.restock(sh, now)...)
			}
		}
	}
	return ask
}

func (l *ledger) restock(sh *shelf, now instant) (ask []probe) {
	sh.stock = slices.DeleteFunc(sh.stock, func(p *place) bool { return !sh.fit(p, now) })
	add := func(p *place) {
		if !p.probing && now.since(p.checked) > againAfter {
			l.touch(p)
			p.probing = true
			ask = append(ask, probe{net: l.net, addr: p.addr()})
		}
	}
	for _, p := range sh.stock {
		add(p)
	}
	missing := stockSize - len(sh.stock)
	for ; missing > 0; missing-- {
		ip, ok := l.fresh(sh)
		if !ok {
			break
		}
		add(l.place(ip, false, 0))
	}
	for _, p := range l.eldest(sh, missing, now) {
		add(p)
	}
	return ask
}

// eldest returns the addresses that have been free for longest.
func (l *ledger) eldest(sh *shelf, n int, now instant) (list []*place) {
	for range n {
		p := l.oldest(sh, false, now)
		if p == nil {
			break
		}
		heap.Remove(&sh.due[0], int(p.index))
		list = append(list, p)
	}
	for _, p := range list {
		heap.Push(&sh.due[0], p)
	}
	return list
}

// proven notes that nobody answered at an address.
func (b *book) proven(a netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil || l.at(a) == nil {
		return
	}
	p, now := l.at(a), b.instant()
	l.touch(p)
	p.probing, p.checked = false, now
	sh := l.shelf(p)
	if sh == nil || !sh.fit(p, now) {
		return
	}
	l.reschedule(p, p.freeAt())
	if len(sh.stock) < stockSize && !slices.Contains(sh.stock, p) {
		sh.stock = append(sh.stock, p)
	}
}

// quarantine notes that somebody answered at an address. It fails when that is
// no wonder: the address was leased meanwhile.
func (b *book) quarantine(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil {
		return false
	}
	p, now := l.place(number(a), false, 0), b.instant()
	l.touch(p)
	p.probing = false
	if p.storing > 0 || p.lease.state == leaseBound && now < p.lease.expires {
		return false
	}
	l.quarantine(p, now.add(quarantineTime))
	return true
}
