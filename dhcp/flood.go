package dhcp

import (
	"hash/maphash"
	"time"
)

// A gate lets each hardware address send a burst of packets, and then a steady
// rate. Who floods us is not heard; everybody else is.
//
// It remembers no addresses, of which anybody can make up a million: they share
// a fixed number of slots, by a hash that nobody outside can foresee.
type gate struct {
	seed  maphash.Seed
	slots []instant // when the slot is as good as new
}

const (
	gateSlots = 1 << 16
	gateBurst = 40                     // firmware, loader and system of one machine, and their retries
	gateEvery = 100 * time.Millisecond // one packet, in the long run
)

func newGate() *gate { return &gate{seed: maphash.MakeSeed(), slots: make([]instant, gateSlots)} }

// allow reports whether a packet is heard. What has no hardware address is
// none of its business.
func (g *gate) allow(packet []byte, now instant) bool {
	if len(packet) < atName {
		return true
	}
	hw := hwaddr(packet[atHardware:])
	if hw == (hwaddr{}) {
		return true
	}
	slot := &g.slots[maphash.Comparable(g.seed, hw)%gateSlots]
	at := max(*slot, now)
	if at.since(now) > (gateBurst-1)*gateEvery {
		return false
	}
	*slot = at.add(gateEvery)
	return true
}
