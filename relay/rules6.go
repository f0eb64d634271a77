package relay

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

const (
	clientPort6 = 546
	serverPort6 = 547
)

// rules6 say what becomes of a DHCPv6 packet (RFC 8415 §19).
type rules6 struct {
	server  netip.AddrPort // invalid: it has no IPv6, and nothing is relayed
	chained bool           // other relays behind us are believed
	rates   *throttle.Throttle[netip.Addr]
	asked   *recent[netip.Addr] // whom an answer may be for
	stats   *stats
}

func newRules6(server netip.AddrPort, chained bool, now func() time.Time, st *stats) *rules6 {
	return &rules6{server: server, chained: chained, rates: throttle.New[netip.Addr](maxMACs, macBurst, macRate, now), asked: newRecent[netip.Addr](now), stats: st}
}

// up makes of a packet that came in on a port the one that goes to the server.
// link is our address there.
func (r *rules6) up(p packet6, from netip.Addr, at port, link netip.Addr, ours func(netip.Addr) bool) (packet6, bool) {
	r.stats.requests.Add(1)
	hops, passed := byte(0), false
	switch {
	case len(p) < leastPacket6, len(p) > mostPacket-atOptions6-8-len(at.name), !from.Is6(), from.IsMulticast(), from.IsUnspecified():
	case p.kind() == typeForward6 && len(p) < atOptions6:
	case ours(from), p.kind() == typeForward6 && p.hops() >= mostHops6:
		r.stats.looped.Add(1)
		return nil, false
	case p.kind() == typeForward6 && !r.chained:
		// Who does wants to be taken for a client of another port.
		r.stats.foreignInfo.Add(1)
		return nil, false
	case p.kind() == typeForward6:
		hops, passed = p.hops()+1, true
	default:
		passed = fromClient6[p.kind()]
	}
	if !passed {
		r.stats.malformed.Add(1)
		return nil, false
	}
	if !r.rates.Allow(from) {
		r.stats.rate.Add(1)
		return nil, false
	}
	r.asked.add(from)
	return wrap(p, link, from, hops, at.name), true
}

// A delivery6 is a server's message on its way to a machine, or to a relay
// behind us.
type delivery6 struct {
	packet packet6
	to     netip.AddrPort
	port   port
}

// down opens a server's message. It fails for whatever is none of ours: the
// network of the server is not ours to trust.
func (r *rules6) down(p packet6, from netip.AddrPort, portOf func(link netip.Addr) (port, bool)) (delivery6, bool) {
	if from != r.server {
		r.stats.stranger.Add(1)
		return delivery6{}, false
	}
	e, ok := unwrap(p)
	at, known := port{}, false
	if ok {
		at, known = portOf(e.link)
	}
	d := delivery6{packet: e.message, port: at}
	switch {
	case !known, e.iface != nil && string(e.iface) != at.name, !at.near(e.peer):
	case e.message.kind() == typeAnswer6 && r.chained:
		d.to = netip.AddrPortFrom(e.peer, serverPort6)
	case e.message.kind() == typeAdvertise6, e.message.kind() == typeReply6: // no RECONFIGURE: the server never speaks first
		d.to = netip.AddrPortFrom(e.peer, clientPort6)
	}
	if !d.to.IsValid() {
		r.stats.malformed.Add(1)
		return delivery6{}, false
	}
	if !r.asked.has(e.peer) {
		r.stats.stranger.Add(1) // nobody here asked
		return delivery6{}, false
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
