package relay

import (
	"bytes"
	"context"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// relayDHCP6 carries DHCPv6 packets until ctx is done.
func (r *Relay) relayDHCP6(ctx context.Context, s *socket6) error {
	return carryDHCP(ctx, s.read, r.safely(func(m message) { r.pass6(s, m) }))
}

func (r *Relay) pass6(s *socket6, m message) {
	p := packet6(m.packet)
	if len(p) > 0 && p.kind() == typeAnswer6 {
		if d, ok := r.rules6.down(p, m.from, r.portByLink); ok && !r.ownTransaction(transaction{d.to.Addr().String(), d.packet.xid()}) {
			r.sent(s.send(d.packet, d.to, netip.Addr{}, d.port.index))
		}
		return
	}
	from, ours := r.portByIndex(m.index)
	link, served := r.linkOf(from)
	if !ours || !served {
		return // on the server's side, or on a network that nobody would answer for
	}
	if !r.rules6.admit(p, m.from.Addr(), from, r.isOurs6) {
		return
	}
	r.watch6(p, m.from.Addr())
	if r.away.Load() {
		r.standIn6(s, m)
		return
	}
	r.toServer6(s, p, m.from.Addr(), from, link)
}

func (r *Relay) toServer6(s *socket6, p packet6, peer netip.Addr, from port, link netip.Addr) {
	if r.sent(s.send(r.rules6.up(p, peer, from, link), r.rules6.server(), link, 0)) {
		r.stats.relayed.Add(1)
	}
}

// standIn6 answers in the place of a server that is away, as standIn does.
func (r *Relay) standIn6(s *socket6, m message) {
	if r.removed.Load() {
		return
	}
	a, ok := r.known.Load().stand6.Answer(m.packet, m.index, m.from, m.to)
	if !ok {
		return
	}
	if a.Leased.IsValid() {
		r.grant(a.Leased, grant{who: m.from.Addr().String(), ask: bytes.Clone(m.packet)})
	}
	if r.sent(s.send(a.Packet, a.To, netip.Addr{}, m.index)) {
		r.stats.away.Add(1)
	}
}

// linkOf returns our address on the IPv6 subnet that is served on a port.
func (r *Relay) linkOf(p port) (netip.Addr, bool) {
	k := r.known.Load()
	for _, six := range p.six {
		if k != nil && k.serves6(six.Addr()) {
			return six.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func (r *Relay) portByLink(a netip.Addr) (port, bool) {
	for _, p := range r.ports() {
		if link, ok := r.linkOf(p); ok && link == a {
			return p, true
		}
	}
	return port{}, false
}

func (r *Relay) isOurs6(a netip.Addr) bool {
	for _, p := range r.ports() {
		for _, six := range p.six {
			if six.Addr() == a {
				return true
			}
		}
	}
	return false
}

// serves6 reports whether the server gives out addresses on the IPv6 subnet of
// an address.
func (k *knowledge) serves6(a netip.Addr) bool {
	for _, n := range k.six {
		if n.CIDR.Contains(a) {
			return true
		}
	}
	return false
}

// advertised are the IPv6 subnets that we advertise as the server would: which
// prefix it is, and that DHCPv6 has the addresses.
func (r *Relay) advertised() []fleet.Subnet {
	if k := r.known.Load(); k != nil {
		return k.six
	}
	return nil
}
