package dhcp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// answer says what a query gets, and whether it gets anything.
func (s *Server) answer(sc *scene) (reply, bool) {
	if s.watch.Imaginary(sc.mac) {
		return reply{}, false // our own question
	}
	if sc.kind == kindLeaseQuery {
		return s.leaseQuery(sc)
	}
	if why := s.look(sc); why != served {
		return s.refuse(sc, why)
	}
	s.noteForeign(sc)
	s.noteTenant(sc)
	switch {
	case sc.subnet.Mode == fleet.Proxy:
		return s.answerProxy(sc)
	case sc.subnet.Mode == fleet.Full, sc.subnet.Mode == fleet.Reserved && sc.who.known:
	case sc.subnet.Mode == fleet.Reserved:
		return s.refuse(sc, refusedUnapproved)
	default:
		return s.refuse(sc, refusedObserve)
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
	case kindBOOTP:
		return s.bootp(sc)
	default:
		return s.refuse(sc, refusedOther)
	}
}

// refuse counts why there is no answer.
func (s *Server) refuse(sc *scene, why refusal) (reply, bool) {
	s.stats.refused[why].Add(1)
	if text := refusalTexts[why]; text != "" && sc.boot.Firmware != pxe.NoBoot {
		s.tell(sc, "silence: "+text+sc.subnet.Name, "", false)
	}
	return reply{}, false
}

// offer answers a DISCOVER (RFC 2131 §4.3.1).
func (s *Server) offer(sc *scene) (reply, bool) {
	found, why := s.pick(sc)
	if why != served {
		s.stats.noAddress.Add(1)
		s.outOfAddresses(sc, why)
		return s.refuse(sc, why)
	}
	s.observeAddr(sc, "offered", found.addr)
	r, ok := s.build(sc, dhcpv4.MessageTypeOffer, found.addr)
	if !ok {
		return reply{}, false
	}
	if found.unproven && s.prober.wants(found.net) {
		r.probe = &probe{net: found.net, addr: found.addr} // counted when it leaves
		return r, true
	}
	s.stats.offers.Add(1)
	return r, true
}

// pick finds an address on the wire of the client: on the network where it has
// one already, or on the first that has one to give. The scene enters it.
func (s *Server) pick(sc *scene) (found pick, why refusal) {
	first := sc.subnet
	if len(first.link) > 1 && !sc.who.fixed {
		for _, n := range first.link {
			if servesClient(n, sc) && s.book.has(n, sc.hw) {
				sc.enter(n)
				break
			}
		}
	}
	if found, why = s.book.offer(sc.subnet, &sc.who, sc.wanted); why == served || sc.who.fixed {
		return found, why
	}
	tried := sc.subnet
	for _, n := range first.link {
		if n == tried || !servesClient(n, sc) {
			continue
		}
		sc.enter(n)
		if found, other := s.book.offer(n, &sc.who, sc.wanted); other == served {
			return found, served
		}
	}
	sc.enter(tried)
	return pick{}, why
}

// servesClient reports whether a network gives addresses to a client.
func servesClient(n *network, sc *scene) bool {
	return n.Mode == fleet.Full || n.Mode == fleet.Reserved && sc.who.known
}

// request answers a REQUEST. What it means depends on which fields it fills
// (RFC 2131 §4.3.2).
func (s *Server) request(sc *scene) (reply, bool) {
	wants := sc.wanted
	if !sc.chosen.IsValid() && sc.client.IsValid() {
		wants = sc.client
	}
	if n := sc.subnet.onLink(wants); n != nil && n != sc.subnet && servesClient(n, sc) && !sc.who.fixed {
		sc.enter(n)
	}
	switch {
	case s.isForAnother(sc):
		s.book.withdraw(sc.subnet, sc.hw) // SELECTING, another server
		return reply{}, false
	case sc.chosen.IsValid():
		return s.selecting(sc)
	case sc.client.IsValid():
		return s.renewing(sc)
	case sc.wanted.IsValid():
		return s.rebooting(sc)
	default:
		return s.refuse(sc, refusedOther) // asks for nothing
	}
}

// isForAnother reports whether a message names another server (option 54).
func (s *Server) isForAnother(sc *scene) bool {
	return sc.chosen.IsValid() && sc.chosen != sc.name && !s.links.Own(sc.chosen)
}

// selecting: the client takes our offer. After a restart we have forgotten
// offers, so any address that is free and that it may have will do.
func (s *Server) selecting(sc *scene) (reply, bool) {
	if !sc.wanted.IsValid() {
		return s.refuse(sc, refusedOther)
	}
	c := s.book.claim(sc.subnet, &sc.who, sc.wanted)
	if c.taken || !c.may {
		return s.nak(sc, "the address is not for this client")
	}
	return s.ack(sc, sc.wanted)
}

// renewing: the client has the address and wants to keep it.
func (s *Server) renewing(sc *scene) (reply, bool) {
	if sc.subnet.onLink(sc.client) == nil {
		return s.nak(sc, "the address is of another network")
	}
	return s.confirm(sc, sc.client, "the lease is another's, or gone")
}

// rebooting: the client had the address once (INIT-REBOOT).
func (s *Server) rebooting(sc *scene) (reply, bool) {
	if !sc.subnet.CIDR.Contains(sc.wanted) {
		return s.nak(sc, "the address is of another network")
	}
	return s.confirm(sc, sc.wanted, "the client has no lease of this address")
}

// confirm lets a client keep an address that it says it has. Of what we know
// nothing of, another server may (RFC 2131 §4.3.2).
func (s *Server) confirm(sc *scene, addr netip.Addr, otherwise string) (reply, bool) {
	c := s.book.claim(sc.subnet, &sc.who, addr)
	switch {
	case c.mine && c.may:
		return s.ack(sc, addr)
	case c.taken, c.known, sc.subnet.isAlone():
		return s.nak(sc, otherwise)
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
	r.lease = s.leaseFor(sc, addr)
	if r.safeUntil, ok = s.book.take(&sc.who, r.lease); !ok {
		return reply{}, false // taken this very moment
	}
	s.observeAddr(sc, "leased", addr)
	return r, true
}

func (s *Server) leaseFor(sc *scene, addr netip.Addr) fleet.Lease {
	return fleet.Lease{
		Addr: addr, Subnet: sc.subnet.Name, MAC: sc.mac, ClientID: hex.EncodeToString(sc.msg.option(codeClientID)),
		Hostname: hostnameOf(sc), State: fleet.LeaseBound, Expires: s.o.Now().Add(sc.leaseTime()),
	}
}

func (s *Server) nak(sc *scene, why string) (reply, bool) {
	s.observe(sc, "refused: "+why)
	sc.why = why
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
		return s.refuse(sc, refusedOther)
	}
	switch n := sc.subnet.onLink(sc.client); {
	case n != nil:
		sc.enter(n)
	case !sc.relay.IsValid(): // the answer would go to whom it pleases
		return s.refuse(sc, refusedElsewhere)
	}
	r, ok := s.build(sc, dhcpv4.MessageTypeAck, netip.Addr{})
	if ok {
		s.stats.acks.Add(1)
	}
	return r, ok
}

// giveUp stores the end of a lease; nobody is answered. Only who holds the
// address is believed, on the network of the address.
func (s *Server) giveUp(sc *scene, addr netip.Addr, state fleet.LeaseState) (reply, bool) {
	switch {
	case s.isForAnother(sc), !addr.IsValid():
		return s.refuse(sc, refusedOther)
	case sc.subnet.onLink(addr) == nil:
		return s.refuse(sc, refusedElsewhere)
	}
	lease, ok := s.book.giveUp(sc.hw, addr, state)
	if !ok {
		return reply{}, false
	}
	if state == fleet.LeaseDeclined {
		s.observe(sc, fmt.Sprintf("declined %s: another machine uses it", addr))
		s.stats.declined.Add(1)
		s.o.Log.Warn("address declined", "mac", sc.mac, "addr", addr, "quarantine", quarantineTime)
	}
	return reply{lease: lease}, true
}

// hostnameOf keeps what the client calls itself, if it is a name at all: of
// "Node-7.example.com" what the host is called, as in leases of other servers
// that were taken over.
func hostnameOf(sc *scene) string {
	return fleet.HostLabel(string(bytes.TrimRight(sc.msg.option(codeHostname), "\x00")))
}
