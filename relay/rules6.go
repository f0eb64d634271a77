package relay

import (
	"net/netip"
	"time"
)

const (
	clientPort6 = 546
	serverPort6 = 547
)

// rules6 say what becomes of a DHCPv6 packet (RFC 8415 §19). A machine is known
// by the address that it asks from.
type rules6 struct{ guard[netip.Addr] }

func newRules6(server netip.AddrPort, chained bool, now func() time.Time, st *stats) *rules6 {
	r := &rules6{}
	r.begin(server, chained, now, st)
	return r
}

// admit says whether a packet, which came in on a port, goes any further.
func (r *rules6) admit(p packet6, from netip.Addr, at port, ours func(netip.Addr) bool) bool {
	r.stats.requests.Add(1)
	switch {
	case len(p) < leastPacket6, len(p) > mostPacket-atOptions6-8-len(at.name), !from.Is6(), from.IsMulticast(), from.IsUnspecified():
	case p.kind() == typeForward6 && len(p) < atOptions6:
	case ours(from), p.kind() == typeForward6 && p.hops() >= mostHops6:
		return r.refuse(&r.stats.looped)
	case p.kind() == typeForward6 && !r.chained:
		// Who does wants to be taken for a client of another port.
		return r.refuse(&r.stats.foreignInfo)
	case p.kind() == typeForward6, fromClient6[p.kind()]:
		return r.mayAsk(from)
	}
	return r.refuse(&r.stats.malformed)
}

// up makes of a packet that came in on a port the one that goes to the server.
// link is our address there.
func (r *rules6) up(p packet6, from netip.Addr, at port, link netip.Addr) packet6 {
	hops := byte(0)
	if p.kind() == typeForward6 {
		hops = p.hops() + 1
	}
	r.asked.add(from)
	return wrap(p, link, from, hops, at.name)
}

// down opens a server's message. It fails for whatever is none of ours: the
// network of the server is not ours to trust.
func (r *rules6) down(p packet6, from netip.AddrPort, portOf func(link netip.Addr) (port, bool)) (d delivery[packet6], ok bool) {
	if !r.isServer(from) {
		return d, false
	}
	e, whole := unwrap(p)
	if whole {
		d.port, ok = portOf(e.link)
	}
	d.packet = e.message
	switch {
	case !ok, e.iface != nil && string(e.iface) != d.port.name, !d.port.near(e.peer):
	case e.message.kind() == typeAnswer6 && r.chained:
		d.to = netip.AddrPortFrom(e.peer, serverPort6)
	case e.message.kind() == typeAdvertise6, e.message.kind() == typeReply6: // no RECONFIGURE: the server never speaks first
		d.to = netip.AddrPortFrom(e.peer, clientPort6)
	}
	if !d.to.IsValid() {
		return d, r.refuse(&r.stats.malformed)
	}
	if !r.hasAsked(e.peer) {
		return d, false
	}
	r.stats.replied.Add(1)
	return d, true
}

// near reports whether an address is that of a machine on the port's own link:
// nobody else hears us, whatever a server says.
func (p port) near(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() {
		return a.Is6()
	}
	for _, six := range p.six {
		if six.Contains(a) && six.Addr() != a {
			return true
		}
	}
	return false
}
