package dhcp

import (
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// A gate lets each hardware address send a burst of packets, and then a steady
// rate.
type gate struct{ addresses *throttle.Gate[hwaddr] }

const (
	gateBurst = 40                     // firmware, loader and system of one machine, and their retries
	gateEvery = 100 * time.Millisecond // one packet, in the long run
)

func newGate() *gate { return &gate{throttle.NewGate[hwaddr](gateBurst, gateEvery)} }

// allow reports whether a packet is heard. What has no hardware address is
// none of its business.
func (g *gate) allow(packet []byte, now instant) bool {
	if len(packet) < atName {
		return true
	}
	hw := hwaddr(packet[atHardware:])
	return hw == hwaddr{} || g.addresses.Allow(hw, time.Duration(now))
}
