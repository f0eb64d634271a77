package foreign

import (
	"net"
	"net/netip"
)

// A Network is an interface of ours.
type Network struct {
	Index int
	Name  string
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // of both families, without the next one
	Local netip.Addr     // its IPv6 link-local address; invalid: it has none
}

// NetworkOf returns an interface that other servers can be found on: an
// Ethernet one that is up.
func NetworkOf(index int) (Network, bool) {
	ifc, err := net.InterfaceByIndex(index)
	if err != nil || len(ifc.HardwareAddr) != 6 || ifc.Flags&net.FlagUp == 0 || ifc.Flags&net.FlagLoopback != 0 {
		return Network{}, false
	}
	addrs, err := ifc.Addrs()
	if err != nil {
		return Network{}, false // it has just gone
	}
	n := Network{Index: index, Name: ifc.Name, MAC: ifc.HardwareAddr}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil:
		case p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
			n.Local = p.Addr()
		default:
			n.Addrs = append(n.Addrs, p)
		}
	}
	return n, true
}

// ownCards are the hardware addresses of this host.
func ownCards() (cards []net.HardwareAddr) {
	all, _ := net.Interfaces() // without them those that we listen on are known
	for _, i := range all {
		if len(i.HardwareAddr) == 6 {
			cards = append(cards, i.HardwareAddr)
		}
	}
	return cards
}

// owns reports whether an address is the interface's.
func (n Network) owns(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	for _, p := range n.Addrs {
		if p.Addr() == a {
			return true
		}
	}
	return a == n.Local
}
