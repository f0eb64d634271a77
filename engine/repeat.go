package engine

import (
	"hash/maphash"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A fact is what is the same in a fact of a boot that comes again.
type fact struct {
	mac    fleet.MAC
	phase  fleet.Phase
	detail string
	place  fleet.Place
}

func factOf(ev fleet.Evidence) fact { return fact{ev.MAC, ev.Phase, ev.Detail, ev.Place} }

// repeats knows facts again for a moment. It remembers a fixed number of them,
// as hashes: of two that share a slot, the later one is remembered.
type repeats struct {
	seed  maphash.Seed
	slots []repeat
}

type repeat struct {
	sum uint64
	at  time.Time
}

const (
	repeatSlots = 1 << 14
	againWithin = 10 * time.Second
)

func newRepeats() *repeats {
	return &repeats{maphash.MakeSeed(), make([]repeat, repeatSlots)}
}

// again reports whether a fact was there a moment ago.
func (r *repeats) again(f fact, now time.Time) bool {
	sum := maphash.Comparable(r.seed, f)
	slot := &r.slots[sum%repeatSlots]
	if slot.sum == sum && now.Sub(slot.at) < againWithin {
		return true
	}
	*slot = repeat{sum, now}
	return false
}

// forget makes a fact news.
func (r *repeats) forget(f fact) {
	sum := maphash.Comparable(r.seed, f)
	if slot := &r.slots[sum%repeatSlots]; slot.sum == sum {
		*slot = repeat{}
	}
}
