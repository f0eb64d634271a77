package throttle

import (
	"hash/maphash"
	"time"
)

// A Gate lets each key send a burst of packets, and then a steady rate. Who
// floods us is not heard; everybody else is. It is for one reader of packets.
//
// It remembers no keys, of which anybody can make up a million: they share a
// fixed number of slots, by hashes that nobody outside can foresee. Each key has a
// slot in every row, and the one that is least used counts (a count-min sketch
// with conservative update): a key is held back for what others do only if each of
// its slots is another flooding key's, too. Who makes up new keys faster than the
// slots of a row run empty (65,536 times the steady rate) fills all of them.
type Gate[K comparable] struct {
	burst time.Duration // as the time that it takes at the steady rate
	every time.Duration
	seed  maphash.Seed
	rows  [gateRows][gateSlots]time.Duration // when the slot is as good as new
}

const (
	gateRows  = 3
	gateBits  = 64 / gateRows // of a hash, for each row
	gateSlots = 1 << 16
)

// NewGate returns a gate for so many packets at once, and then one in so long.
func NewGate[K comparable](burst int, every time.Duration) *Gate[K] {
	return &Gate[K]{burst: time.Duration(burst) * every, every: every, seed: maphash.MakeSeed()}
}

// Allow reports whether a packet is heard that came at a time, since any
// moment that stays the same.
func (g *Gate[K]) Allow(key K, at time.Duration) bool {
	hash := maphash.Comparable(g.seed, key)
	free := g.rows[0][hash%gateSlots]
	for i := 1; i < gateRows; i++ {
		free = min(free, g.rows[i][hash>>(i*gateBits)%gateSlots])
	}
	free = max(free, at)
	if free-at > g.burst-g.every {
		return false
	}
	free += g.every
	for i := range gateRows {
		slot := &g.rows[i][hash>>(i*gateBits)%gateSlots]
		*slot = max(*slot, free)
	}
	return true
}
