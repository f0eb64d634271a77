// Package neighbour knows the hardware addresses of machines on our links, as
// the kernel does: who sends us a packet has asked for ours before.
package neighbour

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Cards returns the hardware address of each machine that the kernel knows, in
// the notation of 52:54:00:12:34:56.
func Cards() (map[netip.Addr]string, error) {
	const noWord = netlink.NUD_INCOMPLETE | netlink.NUD_FAILED | netlink.NUD_NOARP
	cards := map[netip.Addr]string{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.NeighList(0, family)
		if err != nil && len(list) == 0 { // a list that changed meanwhile is good enough
			return cards, fmt.Errorf("read neighbours: %w", err)
		}
		for _, n := range list {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 && n.State&noWord == 0 {
				cards[addr.Unmap()] = n.HardwareAddr.String()
			}
		}
	}
	return cards, nil
}
