package dhcp6

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A scene is all that an answer depends on: the query, where it came from, and
// who the client is.
type scene struct {
	*query
	subnet fleet.Subnet
	node   fleet.Node // zero when unknown
	known  bool       // approved at some time: reserved subnets serve it
	plan   pxe.Plan
}

// answer says what a query gets, and whether it gets anything.
func (s *Server) answer(q *query) (reply, bool) {
	if len(q.duid) > 0 && s.o.Others.Imaginary(q.duid.mac()) {
		return reply{}, false // our own question
	}
	sc, ok := s.scene(q)
	if !ok {
		return reply{}, false
	}
	if q.server != nil && !bytes.Equal(q.server, s.id) {
		s.otherServer(sc)
		return reply{}, false
	}
	if sc.plan.Code != "" && sc.subnet.Mode != fleet.Observe {
		s.alarms.Raise(sc.plan.Code, fmt.Sprintf("IPv6, architecture %d", sc.boot.Arch), string(sc.mac)+": "+sc.plan.Reason)
	}
	switch {
	case sc.subnet.Mode == fleet.Full, sc.subnet.Mode == fleet.Reserved && sc.known:
	case sc.subnet.Mode == fleet.Reserved:
		s.observe(sc, "silence: not approved, and the subnet serves known nodes only")
		return reply{}, false
	default: // observe; proxy has no meaning here
		s.observe(sc, "silence: the subnet observes only")
		return reply{}, false
	}
	if q.relay == nil && !q.to.IsMulticast() {
		return s.useMulticast(sc)
	}
	switch q.msg.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if q.msg.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			return s.commit(sc, true)
		}
		return s.advertise(sc)
	case dhcpv6.MessageTypeRequest:
		return s.commit(sc, false)
	case dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		return s.extend(sc)
	case dhcpv6.MessageTypeConfirm:
		return s.confirm(sc)
	case dhcpv6.MessageTypeRelease:
		return s.giveUp(sc, fleet.LeaseReleased)
	case dhcpv6.MessageTypeDecline:
		return s.giveUp(sc, fleet.LeaseDeclined)
	case dhcpv6.MessageTypeInformationRequest:
		return s.inform(sc)
	default:
		return reply{}, false
	}
}

// scene finds the subnet, our address on it, the node and its plan. It fails
// for networks that we do not serve.
func (s *Server) scene(q *query) (scene, bool) {
	l, served := s.links.Get(q.ifindex)
	if !served || s.links.Own(q.from.Addr().WithZone("")) {
		return scene{}, false // not our interface, or our own relay: a loop
	}
	sc := scene{query: q}
	var ok bool
	if sc.subnet, ok = s.subnetFor(q, l); !ok {
		return scene{}, false
	}
	if len(q.ias) > 0 {
		q.mac = s.book.recall(sc.subnet, sc.client(q.ias[0])).mac
	}
	if n, found := s.o.Nodes.NodeByMAC(q.mac); found && q.mac != "" {
		sc.node = n
		sc.known = n.WasApproved()
	}
	q.place.Subnet = sc.subnet.Name
	q.boot.MAC, q.boot.Port, q.boot.Subnet, q.boot.NoPassOn = q.mac, s.o.HTTPPort, sc.subnet.Name, true
	if sc.subnet.BootHTTPS && q.boot.Firmware == pxe.HTTP && s.o.HTTPSPort != 0 {
		q.boot.Secure, q.boot.Port = true, s.o.HTTPSPort
	}
	q.boot.Quirk = s.o.Quirk(q.boot, sc.node)
	if q.boot.Server = s.serverFor(sc.subnet, l); !q.boot.Server.IsValid() {
		q.boot.Firmware = pxe.NoBoot // there is no address of ours to fetch files from
	}
	sc.plan = pxe.Decide(q.boot, sc.node)
	return sc, true
}

// isKnown reports whether somebody approved a machine, by its MAC alone.
func (s *Server) isKnown(mac fleet.MAC) bool {
	n, found := s.o.Nodes.NodeByMAC(mac)
	return found && mac != "" && n.WasApproved()
}

// subnetFor finds the network that the client is on: as its relay says, or as
// the addresses of the interface say.
func (s *Server) subnetFor(q *query, l links.Link) (fleet.Subnet, bool) {
	if q.relay != nil {
		return s.behindRelay(q, l)
	}
	return s.subnetOn(l)
}

func (s *Server) subnetOn(l links.Link) (fleet.Subnet, bool) {
	for _, p := range l.Prefixes {
		if n, ok := s.book.subnetOf(p.Addr()); ok {
			return n, true
		}
	}
	return fleet.Subnet{}, false
}

// serverFor returns the address that boot files are fetched from: the declared
// one, ours on the client's own network, or any IPv6 one of the interface.
func (s *Server) serverFor(n fleet.Subnet, l links.Link) netip.Addr {
	if n.Server.IsValid() {
		return n.Server
	}
	var any netip.Addr
	for _, p := range l.Prefixes {
		if n.CIDR.Contains(p.Addr()) {
			return p.Addr()
		}
		if p.Addr().Is6() && !any.IsValid() {
			any = p.Addr()
		}
	}
	return any
}

func (sc scene) client(a ia) client {
	return client{duid: sc.duid.hex(), iaid: a.id, mac: sc.mac, side: a.side, known: sc.known}
}

// own is the address that the node is declared to have.
func (sc scene) own() netip.Addr {
	if sc.node.Addr.Is6() {
		return sc.node.Addr
	}
	return netip.Addr{}
}

// useMulticast tells a client that writes to our address to write to all: we
// do not allow the former (RFC 8415 §18.3.2), which would let it past relays.
func (s *Server) useMulticast(sc scene) (reply, bool) {
	s.stats.refused.Add(1)
	return s.build(sc, dhcpv6.MessageTypeReply, nil, status(iana.StatusUseMulticast, "write to "+allServers.String()))
}

// advertise answers a SOLICIT (RFC 8415 §18.3.1).
func (s *Server) advertise(sc scene) (reply, bool) {
	if len(sc.ias) == 0 {
		return reply{}, false // asks for a prefix, or for nothing
	}
	valid := leaseTime(sc.subnet, sc.known)
	var given []netip.Addr
	options := make([]dhcpv6.Option, 0, len(sc.ias))
	for _, a := range sc.ias {
		c := s.book.recall(sc.subnet, sc.client(a))
		addr, ok := s.book.offer(sc.subnet, c, a.addrs, sc.own())
		if !ok || slices.Contains(given, addr) {
			options = append(options, denied(a, iana.StatusNoAddrsAvail, "no address is free"))
			continue
		}
		given = append(given, addr)
		options = append(options, granted(a, addr, valid))
	}
	if len(given) == 0 {
		return s.noAddress(sc, dhcpv6.MessageTypeAdvertise)
	}
	s.observeGiven(sc, "offered "+join(given))
	r, ok := s.build(sc, dhcpv6.MessageTypeAdvertise, options, dhcpv6.OptPreference(highest))
	if ok {
		s.stats.advertises.Add(1)
	}
	return r, ok
}

// highest is the preference that ends a client's wait for other servers (RFC
// 8415 §18.2.9). UEFI would wait for five seconds. Who arms a subnet wants us.
const highest = 255

func (s *Server) noAddress(sc scene, kind dhcpv6.MessageType) (reply, bool) {
	s.outOfAddresses(sc)
	s.observe(sc, "no free address on subnet "+sc.subnet.Name)
	return s.build(sc, kind, nil, status(iana.StatusNoAddrsAvail, "no address is free"))
}

// commit answers a REQUEST, or a SOLICIT with rapid commit: the answer leaves
// once its leases are on disk.
func (s *Server) commit(sc scene, rapid bool) (reply, bool) {
	if len(sc.ias) == 0 {
		return reply{}, false
	}
	valid := leaseTime(sc.subnet, sc.known)
	options := make([]dhcpv6.Option, 0, len(sc.ias)+1)
	for _, a := range sc.ias {
		options = append(options, s.bind(sc, a, valid))
	}
	if rapid && len(sc.taken) == 0 {
		return s.noAddress(sc, dhcpv6.MessageTypeAdvertise)
	}
	if rapid {
		options = append(options, &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	r, ok := s.build(sc, dhcpv6.MessageTypeReply, options)
	if len(sc.taken) > 0 {
		s.observeGiven(sc, "leased "+sc.taken[0].Addr.String())
	}
	return r, ok
}

// bind takes an address for one association, not one of another link (RFC 8415
// §18.3.2).
func (s *Server) bind(sc scene, a ia, valid time.Duration) dhcpv6.Option {
	if slices.ContainsFunc(a.addrs, func(w netip.Addr) bool { return !sc.subnet.CIDR.Contains(w) }) {
		s.stats.refused.Add(1)
		return denied(a, iana.StatusNotOnLink, "the address is of another network")
	}
	c := s.book.recall(sc.subnet, sc.client(a))
	lease, ok := s.book.take(sc.subnet, c, a.addrs, sc.own(), valid)
	if !ok {
		s.outOfAddresses(sc)
		return denied(a, iana.StatusNoAddrsAvail, "no address is free")
	}
	sc.taken = append(sc.taken, lease)
	return granted(a, lease.Addr, valid)
}

// extend answers RENEW and REBIND (RFC 8415 §18.3.4, §18.3.5). Where we give
// out the addresses alone, or it is the node's own, a binding that we know
// nothing of is made anew: the client has lost nothing, we have.
func (s *Server) extend(sc scene) (reply, bool) {
	valid := leaseTime(sc.subnet, sc.known)
	var before []fleet.Lease6
	var options []dhcpv6.Option
	for _, a := range sc.ias {
		c := s.book.recall(sc.subnet, sc.client(a))
		held, has := s.book.lease(sc.subnet, c)
		wanted := slices.DeleteFunc(slices.Clone(a.addrs), func(w netip.Addr) bool { return !sc.subnet.CIDR.Contains(w) })
		ours := slices.Contains(wanted, sc.own()) || sc.subnet.Mode == fleet.Full && len(wanted) > 0
		if !has && !ours {
			s.stats.refused.Add(1)
			options = append(options, refusedIA(sc, a))
			continue
		}
		lease, ok := s.book.take(sc.subnet, c, wanted, sc.own(), valid)
		if !ok {
			s.stats.refused.Add(1)
			options = append(options, refusedIA(sc, a))
			continue
		}
		sc.taken = append(sc.taken, lease)
		options = append(options, granted(a, lease.Addr, valid, a.addrs...))
		if has && held.Addr == lease.Addr {
			before = append(before, held)
		}
	}
	if len(options) == 0 {
		return reply{}, false
	}
	r, ok := s.build(sc, dhcpv6.MessageTypeReply, options)
	if r.before = before; len(before) > 0 && len(before) == len(sc.taken) {
		r.meanwhile = func(left time.Duration) (reply, bool) { return s.meanwhile(sc, before, left) }
	}
	return r, ok
}

// meanwhile renews, for what is left of it, a lease that cannot be written
// now: what is on disk stays true.
func (s *Server) meanwhile(sc scene, before []fleet.Lease6, left time.Duration) (reply, bool) {
	var options []dhcpv6.Option
	for _, l := range before {
		options = append(options, granted(ia{id: l.IAID}, l.Addr, left))
	}
	return s.build(sc, dhcpv6.MessageTypeReply, options)
}

// refusedIA says that the client has no such lease: by the status for a RENEW,
// by lifetimes of nothing for a REBIND, which other servers may answer too.
func refusedIA(sc scene, a ia) dhcpv6.Option {
	if sc.msg.MessageType == dhcpv6.MessageTypeRenew {
		return denied(a, iana.StatusNoBinding, "no such lease")
	}
	return granted(a, netip.Addr{}, 0, a.addrs...)
}

// confirm says whether addresses that the client had are of this link (RFC
// 8415 §18.3.3); whether they are its own is another matter.
func (s *Server) confirm(sc scene) (reply, bool) {
	some := false
	for _, a := range sc.ias {
		for _, addr := range a.addrs {
			some = true
			if !sc.subnet.CIDR.Contains(addr) {
				s.stats.refused.Add(1)
				return s.build(sc, dhcpv6.MessageTypeReply, nil, status(iana.StatusNotOnLink, "the address is of another network"))
			}
		}
	}
	if !some {
		return reply{}, false
	}
	return s.build(sc, dhcpv6.MessageTypeReply, nil, status(iana.StatusSuccess, "on this link"))
}

// inform gives options to a client that has its address from elsewhere.
func (s *Server) inform(sc scene) (reply, bool) {
	s.observe(sc, "told options, "+planText(sc))
	return s.build(sc, dhcpv6.MessageTypeReply, nil)
}

// giveUp stores the end of leases (RFC 8415 §18.3.7, §18.3.8). Only who holds
// an address is believed.
func (s *Server) giveUp(sc scene, state fleet.LeaseState) (reply, bool) {
	var options []dhcpv6.Option
	for _, a := range sc.ias {
		found := false
		for _, addr := range a.addrs {
			if lease, ok := s.book.giveUp(sc.client(a), addr, state); ok {
				sc.taken, found = append(sc.taken, lease), true
			}
		}
		if !found {
			options = append(options, denied(a, iana.StatusNoBinding, "no such lease"))
		}
	}
	if state == fleet.LeaseDeclined && len(sc.taken) > 0 {
		addr := sc.taken[0].Addr
		s.observe(sc, "declined "+addr.String()+": another machine uses it")
		s.o.Log.Warn("address declined", "mac", sc.mac, "addr", addr, "quarantine", quarantineTime)
	}
	return s.build(sc, dhcpv6.MessageTypeReply, options, status(iana.StatusSuccess, "done"))
}

func join(addrs []netip.Addr) string {
	var b strings.Builder
	for i, a := range addrs {
		if i > 0 {
			b.WriteString(" and ")
		}
		b.WriteString(a.String())
	}
	return b.String()
}

// planText is the plan in words, for evidence.
func planText(sc scene) string {
	if sc.plan.File != "" {
		return fmt.Sprintf("%s (%s)", sc.plan.File, sc.plan.Reason)
	}
	return sc.plan.Reason
}
