package throttle

import (
	"hash/maphash"
	"time"
)

// A Gate lets each key send a burst of packets, and then a steady rate. Who
// floods us is not heard; everybody else is. It is for one reader of packets.
//
// It remembers no keys, of which anybody can make up a million: they share a
// fixed number of slots, by a hash that nobody outside can foresee.
type Gate[K comparable] struct {
	burst time.Duration // as the time that it takes at the steady rate
	every time.Duration
	seed  maphash.Seed
	slots []time.Duration // when the slot is as good as new
}

const gateSlots = 1 << 16

// NewGate returns a gate for so many packets at once, and then one in so long.
func NewGate[K comparable](burst int, every time.Duration) *Gate[K] {
	return &Gate[K]{burst: time.Duration(burst) * every, every: every, seed: maphash.MakeSeed(), slots: make([]time.Duration, gateSlots)}
}

// Allow reports whether a packet is heard that came at a time, since any
// moment that stays the same.
func (g *Gate[K]) Allow(key K, at time.Duration) bool {
	slot := &g.slots[maphash.Comparable(g.seed, key)%gateSlots]
	free := max(*slot, at)
	if free-at > g.burst-g.every {
		return false
	}
	*slot = free + g.every
	return true
}
