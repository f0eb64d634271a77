package dhcp

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// Options of a lease query's answer (RFC 4388 §6.1).
const (
	codeLastTransaction = 91
	codeAssociated      = 92
	maxAssociated       = 32
)

// leaseQuery answers an access concentrator or switch that asks who has an
// address, or what addresses a client has: by address (ciaddr), by MAC, or by
// client identifier. Only relays that a subnet names are told: the answer says
// who is on a network.
func (s *Server) leaseQuery(sc *scene) (reply, bool) {
	prefixes, isServed := s.ifaces.addrs(sc.ifindex)
	var ok bool
	if sc.server, ok = s.serverFor(&sc.query, &network{}, prefixes); !isServed || !ok {
		return s.refuseQuery(refusedNetwork)
	}
	if s.ifaces.own(sc.relay) {
		return s.refuseQuery(refusedLoop)
	}
	if !s.nets.Load().relays[sc.relay] {
		return s.refuseQuery(refusedQuery)
	}
	leases, kind := s.asked(sc)
	r := s.buildQueryAnswer(sc, kind, leases)
	s.stats.queries.Add(1)
	return r, true
}

func (s *Server) refuseQuery(why refusal) (reply, bool) {
	s.stats.refused[why].Add(1)
	return reply{}, false
}

// asked returns the leases that a query is about, the newest first.
func (s *Server) asked(sc *scene) ([]fleet.Lease, dhcpv4.MessageType) {
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
		l := leases[0]
		d.client = l.Addr
		left := max(l.Expires.Sub(s.o.Now()), 0)
		d.setNumber(51, seconds(left))
		if n := s.nets.Load().of(l.Addr); n != nil {
			given := time.Duration(n.Lease) * time.Second
			if n.Lease <= 0 {
				given = defaultLease
			}
			d.setNumber(codeLastTransaction, seconds(max(given-left, 0)))
		}
		if id, err := hex.DecodeString(l.ClientID); err == nil && len(id) > 0 {
			d.set(codeClientID, id)
		}
		if l.Hostname != "" && sc.query.asked(codeHostname) {
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
