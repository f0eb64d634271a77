package dhcp

import (
	"encoding/hex"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// codeAssociated lists the addresses of a client that has several (RFC 4388
// §6.1). Option 91, when it was heard last, is left out: a lease knows when it
// ends, and not how long it was.
const (
	codeAssociated = 92
	maxAssociated  = 32
)

// leaseQuery answers an access concentrator or switch that asks who has an
// address, or what addresses a client has: by address (ciaddr), by MAC, or by
// client identifier. Only relays that a subnet which we serve names are told:
// the answer says who is on a network.
func (s *Server) leaseQuery(sc *scene) (reply, bool) {
	l, isServed := s.links.Get(sc.ifindex)
	var ok bool
	if sc.server, ok = s.serverFor(&sc.query, &network{}, l.Prefixes); !isServed || !ok {
		return s.refuseQuery(refusedNetwork)
	}
	if s.links.Own(sc.relay) {
		return s.refuseQuery(refusedLoop)
	}
	if !s.nets.Load().asking[sc.relay] {
		return s.refuseQuery(refusedQuery)
	}
	leases, kind := s.leasesAskedFor(sc)
	r := s.buildQueryAnswer(sc, kind, leases)
	s.stats.queries.Add(1)
	return r, true
}

func (s *Server) refuseQuery(why refusal) (reply, bool) {
	s.stats.refused[why].Add(1)
	return reply{}, false
}

// leasesAskedFor returns the leases that a query is about, the newest first.
func (s *Server) leasesAskedFor(sc *scene) ([]fleet.Lease, dhcpv4.MessageType) {
	if sc.client.IsValid() {
		if s.nets.Load().of(sc.client) == nil {
			return nil, kindLeaseUnknown
		}
		if l, ok := s.book.leaseByAddr(sc.client); ok {
			return []fleet.Lease{l}, kindLeaseActive
		}
		return nil, kindLeaseUnassigned
	}
	var leases []fleet.Lease
	if id := sc.msg.option(codeClientID); id != nil {
		leases = s.book.leasesByClientID(hex.EncodeToString(id))
	} else if _, ok := sc.msg.hardware(); ok {
		leases = s.book.leasesByMAC(sc.mac)
	}
	if len(leases) == 0 {
		return nil, kindLeaseUnknown
	}
	return leases, kindLeaseActive
}

// buildQueryAnswer writes the answer. It goes to the relay; the fields of the
// client are those of the lease, and not of the query.
func (s *Server) buildQueryAnswer(sc *scene, kind dhcpv4.MessageType, leases []fleet.Lease) reply {
	d := &sc.draft
	d.reset(0)
	d.setByte(53, byte(kind))
	d.setAddrs(54, sc.server)
	d.client = sc.client
	if kind == kindLeaseActive {
		s.tellLeases(d, sc, leases)
	}
	if info := sc.msg.option(codeRelayInfo); info != nil {
		d.set(codeRelayInfo, info)
	}
	b := d.appendTo(make([]byte, 0, d.size()), &sc.msg)
	if kind == kindLeaseActive {
		hw := leases[0].MAC.Hardware()
		b[atHType], b[atHLen] = 1, byte(len(hw)) //nolint:gosec // six
		clear(b[atHardware:atName])
		copy(b[atHardware:atName], hw)
	}
	return reply{packet: b, from: sc.server, to: netip.AddrPortFrom(sc.relay, serverPort)}
}

// tellLeases writes what is known of a client: its newest lease, and the
// addresses of all.
func (s *Server) tellLeases(d *draft, sc *scene, leases []fleet.Lease) {
	l := leases[0]
	d.client = l.Addr
	d.setNumber(51, seconds(max(l.Expires.Sub(s.o.Now()), 0)))
	if id, err := hex.DecodeString(l.ClientID); err == nil && len(id) > 0 {
		d.set(codeClientID, id)
	}
	if l.Hostname != "" && sc.asked(codeHostname) {
		d.setText(codeHostname, l.Hostname)
	}
	if len(leases) > 1 {
		var all []netip.Addr
		for _, l := range leases[:min(len(leases), maxAssociated)] {
			all = append(all, l.Addr)
		}
		d.setAddrs(codeAssociated, all...)
	}
}
