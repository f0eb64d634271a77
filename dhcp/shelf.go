package dhcp

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A shelf is the addresses of some ranges: of a subnet, or of a class. At most
// share of them are, or were last, in the hands of strangers: machines that
// nobody has approved, of which anybody can make up a million. What strangers
// had goes to the next strangers, the rest is left for those that are known.
type shelf struct {
	class     string            // whose they are; "" for everybody
	ranges    []fleet.AddrRange // in order, without what is excluded
	size      int
	share     int
	strangers int
	due       [2]places // what known clients had, and what strangers had
	rangeNo   int       // range and address of it that were never given yet
	nextAddr  netip.Addr
	stock     []*place // free, and nobody answered there lately
	lastUse   time.Time
	inUse     tally
	samples   []int // of leases, one a minute, the newest last
}

const defaultShare = 50 // percent

func (l *ledger) newShelf(class string, ranges []fleet.AddrRange) *shelf {
	sh := &shelf{class: class, ranges: without(ranges, l.net.Exclude), inUse: newTally()}
	for _, r := range sh.ranges {
		sh.size += count(r)
	}
	for _, taken := range []map[netip.Addr]bool{l.never, l.reserved} {
		for a := range taken {
			if sh.contains(a) {
				sh.size--
			}
		}
	}
	percent := l.net.UnknownShare
	if percent <= 0 {
		percent = defaultShare
	}
	sh.share = max(1, (sh.size*percent+99)/100)
	return sh
}

// count returns how many addresses a range has.
func count(r fleet.AddrRange) int {
	return int(number(r.Last)) - int(number(r.First)) + 1
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// without returns the ranges in order, less the addresses of others.
func without(ranges, others []fleet.AddrRange) []fleet.AddrRange {
	byFirst := func(a, b fleet.AddrRange) int { return a.First.Compare(b.First) }
	rest := slices.Clone(ranges)
	slices.SortFunc(rest, byFirst)
	others = slices.Clone(others)
	slices.SortFunc(others, byFirst)
	var out []fleet.AddrRange
	for _, r := range rest {
		if !r.First.Is4() || !r.Last.Is4() || r.Last.Less(r.First) {
			continue
		}
		from := r.First
		for _, o := range others {
			if o.Last.Less(from) || r.Last.Less(o.First) {
				continue
			}
			if from.Less(o.First) {
				out = append(out, fleet.AddrRange{First: from, Last: o.First.Prev()})
			}
			from = o.Last.Next()
		}
		if from.IsValid() && !r.Last.Less(from) {
			out = append(out, fleet.AddrRange{First: from, Last: r.Last})
		}
	}
	return out
}

func (sh *shelf) contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(sh.ranges, a, func(r fleet.AddrRange, a netip.Addr) int { return r.First.Compare(a) })
	return found || i > 0 && sh.ranges[i-1].Contains(a)
}

// next returns an address for a client that has none: one where nobody
// answered lately, one that nobody ever had, or the one that has been free for
// longest.
func (l *ledger) next(sh *shelf, c *client, now time.Time) (*place, refusal) {
	sh.lastUse = now
	room := c.known || sh.strangers < sh.share
	if room {
		if p := sh.fromStock(now); p != nil {
			return p, served
		}
		if a, ok := l.fresh(sh); ok {
			return l.place(a, !c.known), served
		}
		if p := sh.oldest(false, now); p != nil {
			return p, served
		}
	}
	if p := sh.oldest(true, now); p != nil {
		return p, served
	}
	if room || sh.share >= sh.size {
		return nil, refusedExhausted
	}
	return nil, refusedShare
}

// fresh returns the next address that nobody ever had.
func (l *ledger) fresh(sh *shelf) (netip.Addr, bool) {
	for sh.rangeNo < len(sh.ranges) {
		r := sh.ranges[sh.rangeNo]
		if !sh.nextAddr.IsValid() {
			sh.nextAddr = r.First
		}
		for a := sh.nextAddr; a.IsValid() && !r.Last.Less(a); a = a.Next() {
			if l.byAddr[a] == nil && !l.never[a] && !l.reserved[a] {
				sh.nextAddr = a.Next()
				return a, true
			}
		}
		sh.rangeNo++
		sh.nextAddr = netip.Addr{}
	}
	return netip.Addr{}, false
}

// oldest returns the address that has been free for longest, of those that
// strangers had or of the others. Renewals do not touch the heap: a place's
// due time may be too early and is put right here, when it comes to the top.
func (sh *shelf) oldest(strangers bool, now time.Time) *place {
	due := &sh.due[heapOf(strangers)]
	for len(*due) > 0 {
		p := (*due)[0]
		if p.due.After(now) {
			return nil
		}
		switch at := p.freeAt(); {
		case p.storing > 0:
			p.reschedule(now.Add(offerTime))
		case at.After(now):
			p.reschedule(at)
		default:
			return p
		}
	}
	return nil
}

func heapOf(strangers bool) int {
	if strangers {
		return 1
	}
	return 0
}

func (sh *shelf) add(p *place) {
	if p.stranger {
		sh.strangers++
	}
	heap.Push(&sh.due[heapOf(p.stranger)], p)
}

func (sh *shelf) fix(p *place) {
	if p.index >= 0 {
		heap.Fix(&sh.due[heapOf(p.stranger)], p.index)
	}
}

// mark notes whether a place is in a stranger's hands.
func (sh *shelf) mark(p *place, stranger bool) {
	if p.stranger == stranger {
		return
	}
	heap.Remove(&sh.due[heapOf(p.stranger)], p.index)
	if p.stranger {
		sh.strangers--
	}
	p.stranger = stranger
	sh.add(p)
}

// places is a heap of places, the one that is due first on top; of those that
// are due at once the one with the lowest address.
type places []*place

func (h places) Len() int { return len(h) }
func (h places) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].addr.Less(h[j].addr)
	}
	return h[i].due.Before(h[j].due)
}

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

// Pop implements [heap.Interface].
func (h *places) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.index = -1
	return last
}
