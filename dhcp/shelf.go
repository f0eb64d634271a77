package dhcp

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

// A shelf is the addresses of some ranges: of a subnet, or of a class. At most
// share of them are, or were last, in the hands of strangers: machines that
// nobody has approved, of which anybody can make up a million. What strangers
// had goes to the next strangers, the rest is left for those that are known.
type shelf struct {
	class     string // whose they are; "" for everybody
	spans     []span // in order, without what is excluded
	size      int
	share     int
	strangers int
	due       [2]places // what known clients had, and what strangers had
	spanNo    int       // span and address of it that were never given yet
	nextIP    uint32    // 0: the start of the range
	stock     []*place  // free, and nobody answered there lately
	lastUse   instant
	inUse     tally
	history   usage.History
}

// A span is a range of addresses, both ends included.
type span struct{ first, last uint32 }

const defaultShare = 50 // percent

func (l *ledger) newShelf(class string, ranges []fleet.AddrRange) *shelf {
	sh := &shelf{class: class, inUse: newTally()}
	for _, r := range fleet.Without(ranges, l.net.Exclude) {
		if !r.First.Is4() {
			continue
		}
		sh.spans = append(sh.spans, span{number(r.First), number(r.Last)})
		sh.size += count(r)
	}
	for _, taken := range []map[uint32]bool{l.never, l.reserved} {
		for ip := range taken {
			if sh.contains(ip) {
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

func (sh *shelf) contains(ip uint32) bool {
	i, found := slices.BinarySearchFunc(sh.spans, ip, func(s span, ip uint32) int { return cmp.Compare(s.first, ip) })
	return found || i > 0 && ip <= sh.spans[i-1].last
}

// isFull reports whether strangers have their share of a shelf.
func (l *ledger) isFull(shelf uint16) bool {
	return shelf != noShelf && l.shelves[shelf].strangers >= l.shelves[shelf].share
}

// next returns an address for a client that has none: one where nobody
// answered lately, one that nobody ever had, or the one that has been free for
// longest.
func (l *ledger) next(sh *shelf, c *client, now instant) (*place, refusal) {
	sh.lastUse = now
	room := c.known || sh.strangers < sh.share
	if room {
		if p := l.fromStock(sh, now); p != nil {
			return p, served
		}
		if ip, ok := l.fresh(sh); ok {
			return l.place(ip, !c.known, now.add(offerTime)), served
		}
		if p := l.oldest(sh, false, now); p != nil {
			return p, served
		}
	}
	if p := l.oldest(sh, true, now); p != nil {
		return p, served
	}
	if room || sh.share >= sh.size {
		return nil, refusedExhausted
	}
	return nil, refusedShare
}

// fresh returns the next address that nobody ever had.
func (l *ledger) fresh(sh *shelf) (ip uint32, ok bool) {
	for ; sh.spanNo < len(sh.spans); sh.spanNo++ {
		s := sh.spans[sh.spanNo]
		for ip := max(s.first, sh.nextIP); ip >= s.first && ip <= s.last; ip++ {
			sh.nextIP = ip + 1
			if l.byAddr.at(ip) == nil && !l.never[ip] && !l.reserved[ip] {
				return ip, true
			}
		}
	}
	return 0, false
}

// oldest returns the address that has been free for longest, of those that
// strangers had or of the others. Renewals do not touch the heap: a place's
// due time may be too early and is put right here, when it comes to the top.
func (l *ledger) oldest(sh *shelf, strangers bool, now instant) *place {
	due := &sh.due[heapOf(strangers)]
	for len(*due) > 0 {
		p := (*due)[0]
		if p.due > now {
			return nil
		}
		switch at := p.freeAt(); {
		case p.storing > 0:
			l.reschedule(p, now.add(offerTime))
		case at > now:
			l.reschedule(p, at)
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
		heap.Fix(&sh.due[heapOf(p.stranger)], int(p.index))
	}
}

// mark notes whether a place is in a stranger's hands.
func (sh *shelf) mark(p *place, stranger bool) {
	if p.stranger == stranger {
		return
	}
	heap.Remove(&sh.due[heapOf(p.stranger)], int(p.index))
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
	if h[i].due == h[j].due {
		return h[i].ip < h[j].ip
	}
	return h[i].due < h[j].due
}

func (h places) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j) //nolint:gosec // addresses are fewer
}

// Push implements [heap.Interface].
func (h *places) Push(x any) {
	p := x.(*place)          //nolint:forcetypeassert // nothing else is pushed
	p.index = int32(len(*h)) //nolint:gosec // addresses are fewer
	*h = append(*h, p)
}

// Pop implements [heap.Interface].
func (h *places) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.index = -1
	return last
}
