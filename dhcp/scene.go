package dhcp

import (
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A scene is all that an answer depends on: the query, where it came from, and
// who the client is; and the answer, while it is written. It is large: each
// socket loop has one, and uses it again for each packet.
type scene struct {
	query
	draft  draft
	subnet *network
	beside bool       // only boot information is asked for: another server gives the address
	server netip.Addr // our address, to send from
	name   netip.Addr // the address that the client knows us by (option 54)
	node   fleet.Node // zero when unknown
	plan   pxe.Plan
	why    string // a NAK is for

	reserved    *fleet.Reservation // nil for none
	class       *class             // nil for none
	poolOptions []fleet.DHCPOption
	who         client
}

// look finds the network, our address on it, the client and its plan. It fails
// for networks that we do not serve.
func (s *Server) look(sc *scene) refusal {
	l, isServed := s.links.Get(sc.ifindex)
	switch {
	case !isServed:
		return refusedNetwork
	case s.links.Own(sc.relay):
		return refusedLoop
	}
	n, why := s.networkFor(sc, l.Prefixes)
	if n == nil {
		return why
	}
	var ok bool
	if sc.server, ok = s.serverFor(&sc.query, n, l.Prefixes); !ok {
		return refusedNetwork
	}
	sc.name = sc.server
	if override := sc.serverOverride(); override.IsValid() {
		sc.name = override
	}
	s.identify(sc, n)
	s.plan(sc)
	return served
}

// identify finds out who the client is. What is reserved for it decides which
// network of its wire it is on.
func (s *Server) identify(sc *scene, n *network) {
	sc.node, _ = s.o.Nodes.NodeByMAC(sc.mac)
	sc.poolOptions = s.nets.Load().pools[sc.node.Pool]
	sc.reserved = nil
	for _, m := range n.link {
		if sc.reserved = m.reservation(&sc.query); sc.reserved != nil {
			n = m
			break
		}
	}
	sc.enter(n)
}

// plan decides what the client shall boot.
func (s *Server) plan(sc *scene) {
	n := sc.subnet
	sc.boot.Server, sc.boot.Port, sc.boot.Subnet, sc.boot.NoPassOn = sc.server, s.o.HTTPPort, n.Name, sc.beside
	if n.Server.IsValid() {
		sc.boot.Server = n.Server
	}
	if n.BootHTTPS && sc.boot.Firmware == pxe.HTTP && s.o.HTTPSPort != 0 {
		sc.boot.Secure, sc.boot.Port = true, s.o.HTTPSPort
	}
	if sc.boot.Firmware != pxe.NoBoot {
		sc.boot.Quirk = s.o.Quirk(sc.boot, sc.node)
	}
	sc.plan = pxe.Decide(sc.boot, sc.node)
	if sc.plan.Code != "" && sc.subnet.Mode != fleet.Observe {
		s.alarms.Raise(sc.plan.Code, sc.noLoaderOn(), string(sc.mac)+": "+sc.plan.Reason)
	}
}

// enter says that the client is on a network, and who it is there. Its boot
// stays as it was: it is about the wire.
func (sc *scene) enter(n *network) {
	sc.subnet, sc.beside = n, n.Mode == fleet.Proxy
	sc.class = n.classOf(&sc.query)
	sc.who = client{mac: sc.hw, known: sc.node.WasApproved() || sc.reserved != nil, own: sc.node.Addr}
	if sc.class != nil {
		sc.who.shelf = sc.class.shelf
	}
	if sc.reserved != nil && n.CIDR.Contains(sc.reserved.Addr) {
		sc.who.own, sc.who.fixed = sc.reserved.Addr, true
	}
}

// isKnown reports whether a client is no stranger, by its MAC alone.
func (s *Server) isKnown(mac fleet.MAC) bool {
	n, _ := s.o.Nodes.NodeByMAC(mac)
	if n.WasApproved() {
		return true
	}
	for _, net := range s.nets.Load().sorted {
		if net.byMAC[mac] != nil {
			return true
		}
	}
	return false
}

// networkFor finds the network that the client is on: as its relay says, or
// as the wire says that its packet came by. What the client says of its own
// address chooses among the networks of that wire, and names another one only
// where the packet came from that very address through a router: renewals and
// INFORM do (RFC 2131 §4.3.2, §4.3.5). Whoever is plugged in here would get
// another network's leases and options otherwise.
func (s *Server) networkFor(sc *scene, prefixes []netip.Prefix) (*network, refusal) {
	nets := s.nets.Load()
	if sc.relay.IsValid() {
		return s.behindRelay(sc, nets)
	}
	var first *network
	for _, p := range prefixes {
		n := nets.of(p.Addr())
		if n == nil {
			continue
		}
		if m := n.onLink(sc.client); m != nil {
			return m, served
		}
		if first == nil {
			first = n
		}
	}
	if n := nets.of(sc.client); n != nil && (isOn(prefixes, sc.client) || s.throughRouter(&sc.query)) {
		return n, served
	}
	if first == nil {
		return nil, refusedNetwork
	}
	return first, served
}

func isOn(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// throughRouter reports whether a packet was sent to us by name, from the
// address that the client says it has, and that address is on none of our
// wires.
func (s *Server) throughRouter(q *query) bool {
	if q.from.Addr() != q.client || !s.links.Own(q.to) {
		return false
	}
	_, near := s.links.Near(q.client)
	return !near
}

// serverFor returns our address to send from: the one it wrote to, else ours
// on its own network or another of its wire, else any of the interface.
func (s *Server) serverFor(q *query, n *network, prefixes []netip.Prefix) (netip.Addr, bool) {
	if s.links.Own(q.to) {
		return q.to, true
	}
	for _, p := range prefixes {
		if n.onLink(p.Addr()) != nil {
			return p.Addr(), true
		}
	}
	if len(prefixes) == 0 {
		return netip.Addr{}, false
	}
	return prefixes[0].Addr(), true
}
