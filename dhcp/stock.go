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
func (sh *shelf) fromStock(now time.Time) *place {
	for len(sh.stock) > 0 {
		p := sh.stock[0]
		sh.stock = sh.stock[1:]
		if sh.fit(p, now) && now.Sub(p.checked) <= provenTime {
			return p
		}
	}
	return nil
}

// fit reports whether an address can stay in stock.
func (sh *shelf) fit(p *place, now time.Time) bool {
	_, busy := p.holder(now)
	return !busy && !p.stranger && !p.lease.Expires.After(now)
}

// restock returns the addresses that should be asked next, so that there are
// some in stock where clients may come. isNear says which networks are our own
// wire: those are stocked before anybody comes.
func (b *book) restock(isNear func(*network) bool) (ask []probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, l := range b.ledgers {
		if l.net.Mode != fleet.Full || l.net.NoProbe {
			continue
		}
		near := isNear(l.net)
		for _, sh := range l.shelves {
			if near || now.Sub(sh.lastUse) < stockAfter {
				ask = append(ask, l.restock(sh, now)...)
			}
		}
	}
	return ask
}

func (l *ledger) restock(sh *shelf, now time.Time) (ask []probe) {
	sh.stock = slices.DeleteFunc(sh.stock, func(p *place) bool { return !sh.fit(p, now) })
	add := func(p *place) {
		if !p.probing && now.Sub(p.checked) > againAfter {
			p.probing = true
			ask = append(ask, probe{net: l.net, addr: p.addr})
		}
	}
	for _, p := range sh.stock {
		add(p)
	}
	missing := stockSize - len(sh.stock)
	for ; missing > 0; missing-- {
		a, ok := l.fresh(sh)
		if !ok {
			break
		}
		add(l.place(a, false))
	}
	for _, p := range sh.eldest(missing, now) {
		add(p)
	}
	return ask
}

// eldest returns the addresses that have been free for longest.
func (sh *shelf) eldest(n int, now time.Time) (list []*place) {
	for range n {
		p := sh.oldest(false, now)
		if p == nil {
			break
		}
		heap.Remove(&sh.due[0], p.index)
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
	if l == nil || l.byAddr[a] == nil {
		return
	}
	p, now := l.byAddr[a], b.now()
	p.probing, p.checked = false, now
	sh := p.shelf
	if sh == nil || !sh.fit(p, now) {
		return
	}
	p.reschedule(p.freeAt())
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
	p, now := l.place(a, false), b.now()
	p.probing = false
	if p.storing > 0 || p.lease.State == fleet.LeaseBound && now.Before(p.lease.Expires) {
		return false
	}
	l.quarantine(p, now.Add(quarantineTime))
	return true
}
