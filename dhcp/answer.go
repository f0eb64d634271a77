package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A scene is all that an answer depends on: the query, where it came from, and
// who the client is; and the answer, while it is written. It is large: each
// socket loop has one, and uses it again for each packet.
type scene struct {
	query
	draft  draft
	subnet fleet.Subnet
	server netip.Addr // our address as the client sees it
	node   fleet.Node // zero when unknown
	known  bool       // approved at some time: reserved subnets serve it
	plan   pxe.Plan
}

// answer says what a query gets, and whether it gets anything.
func (s *Server) answer(sc *scene) (reply, bool) {
	if !s.look(sc) {
		return reply{}, false
	}
	s.noteForeign(sc)
	switch {
	case sc.subnet.Mode == fleet.Proxy:
		return s.answerProxy(sc)
	case sc.subnet.Mode == fleet.Full, sc.subnet.Mode == fleet.Reserved && sc.known:
	case sc.subnet.Mode == fleet.Reserved:
		s.observe(sc, "silence: not approved, and the subnet serves known nodes only")
		return reply{}, false
	default:
		s.observe(sc, "silence: the subnet observes only")
		return reply{}, false
	}
	if sc.proxy {
		return s.bootAnswer(sc)
	}
	switch sc.kind {
	case dhcpv4.MessageTypeDiscover:
		return s.offer(sc)
	case dhcpv4.MessageTypeRequest:
		return s.request(sc)
	case dhcpv4.MessageTypeInform:
		return s.inform(sc)
	case dhcpv4.MessageTypeRelease:
		return s.giveUp(sc, sc.client, fleet.LeaseReleased)
	case dhcpv4.MessageTypeDecline:
		return s.giveUp(sc, sc.wanted, fleet.LeaseDeclined)
	default:
		return reply{}, false
	}
}

// look finds the subnet, our address on it, the node and its plan. It fails
// for networks that we do not serve.
func (s *Server) look(sc *scene) bool {
	prefixes, served := s.ifaces.addrs(sc.ifindex)
	if !served || s.ifaces.own(sc.relay) {
		return false // not our interface, or our own relay: a loop
	}
	var ok bool
	if sc.subnet, ok = s.subnetFor(&sc.query, prefixes); !ok {
		return false
	}
	if sc.server, ok = s.serverFor(&sc.query, sc.subnet, prefixes); !ok {
		return false
	}
	sc.node, ok = s.o.Nodes.NodeByMAC(sc.mac)
	sc.known = ok && sc.node.State != fleet.Discovered && sc.node.State != fleet.Retired && sc.node.State != ""
	sc.boot.Server, sc.boot.Port, sc.boot.Subnet = sc.server, s.o.HTTPPort, sc.subnet.Name
	if sc.subnet.Server.IsValid() {
		sc.boot.Server = sc.subnet.Server
	}
	sc.plan = pxe.Decide(sc.boot, sc.node)
	return true
}

// subnetFor finds the network that the client is on: as its relay says, as its
// address says when it has one already (a renewal may come through a router,
// without a relay), or as the interface says.
func (s *Server) subnetFor(q *query, prefixes []netip.Prefix) (fleet.Subnet, bool) {
	if q.relay.IsValid() {
		if link := q.linkSelection(); link.IsValid() {
			return s.book.subnetOf(link)
		}
		return s.book.subnetOf(q.relay)
	}
	if q.client.IsValid() {
		if n, ok := s.book.subnetOf(q.client); ok {
			return n, true
		}
	}
	for _, p := range prefixes {
		if n, ok := s.book.subnetOf(p.Addr()); ok {
			return n, true
		}
	}
	return fleet.Subnet{}, false
}

// serverFor returns the address that the client knows us by: the one it wrote
// to, else ours on its own network, else any of the interface.
func (s *Server) serverFor(q *query, n fleet.Subnet, prefixes []netip.Prefix) (netip.Addr, bool) {
	if s.ifaces.own(q.to) {
		return q.to, true
	}
	for _, p := range prefixes {
		if n.CIDR.Contains(p.Addr()) {
			return p.Addr(), true
		}
	}
	if len(prefixes) == 0 {
		return netip.Addr{}, false
	}
	return prefixes[0].Addr(), true
}

// offer answers a DISCOVER (RFC 2131 §4.3.1).
func (s *Server) offer(sc *scene) (reply, bool) {
	addr, ok := s.book.offer(sc.subnet, sc.mac, sc.wanted, sc.node.Addr)
	if !ok {
		s.stats.noAddress.Add(1)
		s.observe(sc, "silence: no free address on subnet "+sc.subnet.Name)
		return reply{}, false
	}
	s.observeAddr(sc, "offered", addr)
	r, ok := s.build(sc, dhcpv4.MessageTypeOffer, addr)
	if ok {
		s.stats.offers.Add(1)
	}
	return r, ok
}

// request answers a REQUEST. What it means depends on which fields it fills
// (RFC 2131 §4.3.2).
func (s *Server) request(sc *scene) (reply, bool) {
	switch {
	case sc.chosen.IsValid() && sc.chosen != sc.server && !s.ifaces.own(sc.chosen):
		s.book.withdraw(sc.subnet, sc.mac) // SELECTING, another server
		return reply{}, false
	case sc.chosen.IsValid():
		return s.selecting(sc)
	case sc.client.IsValid():
		return s.renewing(sc)
	case sc.wanted.IsValid():
		return s.rebooting(sc)
	default:
		return reply{}, false // asks for nothing
	}
}

// selecting: the client takes our offer. After a restart we have forgotten
// offers, so any address that is free and that it may have will do.
func (s *Server) selecting(sc *scene) (reply, bool) {
	if !sc.wanted.IsValid() {
		return reply{}, false
	}
	c := s.book.claim(sc.subnet, sc.mac, sc.wanted, sc.node.Addr)
	if c.taken || !c.may {
		return s.nak(sc, "the address is not for this client")
	}
	return s.ack(sc, sc.wanted)
}

// renewing: the client has the address and wants to keep it.
func (s *Server) renewing(sc *scene) (reply, bool) {
	c := s.book.claim(sc.subnet, sc.mac, sc.client, sc.node.Addr)
	switch {
	case c.mine && c.may:
		return s.ack(sc, sc.client)
	case c.taken, c.known, sc.subnet.Mode == fleet.Full:
		return s.nak(sc, "the lease is another's, or gone")
	default:
		return reply{}, false // we know nothing of it: perhaps another server does
	}
}

// rebooting: the client had the address once (INIT-REBOOT).
func (s *Server) rebooting(sc *scene) (reply, bool) {
	if !sc.subnet.CIDR.Contains(sc.wanted) {
		return s.nak(sc, "the address is of another network")
	}
	c := s.book.claim(sc.subnet, sc.mac, sc.wanted, sc.node.Addr)
	switch {
	case c.mine && c.may:
		return s.ack(sc, sc.wanted)
	case c.taken, c.known, sc.subnet.Mode == fleet.Full:
		return s.nak(sc, "the client has no lease of this address")
	default:
		return reply{}, false
	}
}

// ack builds an ACK that leaves once its lease is on disk.
func (s *Server) ack(sc *scene, addr netip.Addr) (reply, bool) {
	r, ok := s.build(sc, dhcpv4.MessageTypeAck, addr)
	if !ok {
		return reply{}, false
	}
	r.lease, ok = s.book.take(sc.subnet, sc.mac, addr, hostnameOf(sc))
	if !ok {
		return reply{}, false // taken this very moment
	}
	s.observeAddr(sc, "leased", addr)
	return r, true
}

func (s *Server) nak(sc *scene, why string) (reply, bool) {
	s.observe(sc, "refused: "+why)
	r, ok := s.build(sc, dhcpv4.MessageTypeNak, netip.Addr{})
	if ok {
		s.stats.naks.Add(1)
	}
	return r, ok
}

// inform answers a client that has an address from elsewhere (RFC 2131
// §4.3.5): options, but neither an address nor a lease.
func (s *Server) inform(sc *scene) (reply, bool) {
	if !sc.client.IsValid() {
		return reply{}, false
	}
	r, ok := s.build(sc, dhcpv4.MessageTypeAck, netip.Addr{})
	if ok {
		s.stats.acks.Add(1)
	}
	return r, ok
}

// giveUp stores the end of a lease; nobody is answered. Only who holds the
// address is believed.
func (s *Server) giveUp(sc *scene, addr netip.Addr, state fleet.LeaseState) (reply, bool) {
	if !addr.IsValid() {
		return reply{}, false
	}
	lease, ok := s.book.giveUp(sc.mac, addr, state)
	if !ok {
		return reply{}, false
	}
	if state == fleet.LeaseDeclined {
		s.observe(sc, fmt.Sprintf("declined %s: another machine uses it", addr))
		s.o.Log.Warn("address declined", "mac", sc.mac, "addr", addr, "quarantine", quarantineTime)
	}
	return reply{lease: lease}, true
}

// hostnameOf keeps what the client calls itself, if it is a name at all.
func hostnameOf(sc *scene) string {
	if name := string(bytes.TrimRight(sc.msg.option(12), "\x00")); fleet.ValidName(name) {
		return name
	}
	return ""
}
