package dhcp

import "time"

// A tally knows how many leases there are, without looking at each: it counts
// them by the minute in which they end, and forgets the minutes that are over.
type tally struct {
	bound, declined map[int64]int
	over            int64 // minutes before this one are forgotten
}

func newTally() tally { return tally{bound: make(map[int64]int), declined: make(map[int64]int)} }

// add counts a lease in, or out when by is -1.
func (t *tally) add(l tenure, by int) {
	minute := minuteOf(l.expires)
	switch {
	case minute < t.over:
	case l.state == leaseBound:
		t.bound[minute] += by
	case l.state == leaseDeclined:
		t.declined[minute] += by
	}
}

// minuteOf rounds up: a lease that ends in this minute still counts.
func minuteOf(at instant) int64 { return (int64(at)/int64(time.Second) + 59) / 60 }

// count returns how many leases hold an address now, to the minute.
func (t *tally) count(now time.Time) (bound, declined int) {
	t.over = now.Unix()/60 + 1
	return sum(t.bound, t.over), sum(t.declined, t.over)
}

func sum(minutes map[int64]int, over int64) (n int) {
	for m, leases := range minutes {
		if m < over {
			delete(minutes, m)
			continue
		}
		n += leases
	}
	return n
}
