package dhcp

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// bootpLease is how long a client that cannot renew has its address at least.
// It asks again whenever it starts.
const bootpLease = 24 * time.Hour

// bootp answers a request without a message type: a ROM that is older than
// DHCP (RFC 951, RFC 1534). There is one exchange: what we answer, it has, and
// so the lease is on disk before. It gets what is reserved for it, or its
// node's address; from the ranges only where the subnet says so, because such
// a client never gives an address back.
func (s *Server) bootp(sc *scene) (reply, bool) {
	if !sc.subnet.BOOTP && !sc.who.fixed {
		return s.refuse(sc, refusedBOOTP)
	}
	found, why := s.pick(sc)
	if why != served {
		s.stats.noAddress.Add(1)
		s.outOfAddresses(sc, why)
		return s.refuse(sc, why)
	}
	if found.unproven && s.prober.wants(found.net) {
		// Nothing is leased before nobody has answered there: then it is asked anew.
		return reply{probe: &probe{net: found.net, addr: found.addr}}, true
	}
	r, ok := s.buildBOOTP(sc, found.addr)
	if !ok {
		return reply{}, false
	}
	r.lease = s.leaseFor(sc, found.addr)
	if _, ok := s.book.take(&sc.who, r.lease); !ok {
		return reply{}, false
	}
	s.observeAddr(sc, "leased by BOOTP", found.addr)
	return r, true
}

// maxBOOTP is the length of a BOOTP message: its vendor area has 64 bytes, the
// cookie among them.
const maxBOOTP = 300

// isBOOTP are the options that were vendor extensions of BOOTP before they
// were options of DHCP (RFC 1497), as far as we send them.
func isBOOTP(code byte) bool { return code <= 18 || code == codeRelayInfo }

// buildBOOTP makes the answer: nothing of leases or servers, and of the rest
// what fits into the vendor area. A ROM that writes nothing there is told all
// the same: those that know RFC 1048 and do not say so take it, the others do
// not look. One that speaks its maker's own format gets back what it wrote.
func (s *Server) buildBOOTP(sc *scene, addr netip.Addr) (reply, bool) {
	d := &sc.draft
	d.reset(sc.msg.flags())
	d.your = addr
	networkOptions(d, sc)
	bootOptions(d, sc)
	d.server = sc.bootServer()
	echo(d, sc)
	for code := range d.has.all {
		if !isBOOTP(code) {
			d.unset(code)
		}
	}
	ownFormat := sc.msg.vendorFormat()
	if ownFormat {
		d.has = codeSet{}
	}
	for _, code := range spareOptions(d, nil) {
		if d.size() <= maxBOOTP {
			break
		}
		d.unset(code)
	}
	if d.size() > maxBOOTP && !d.has.contains(codeRelayInfo) {
		s.stats.tooLong.Add(1)
		return reply{}, false
	}
	r := reply{packet: d.appendTo(make([]byte, 0, d.size()), &sc.msg), from: sc.server}
	if ownFormat {
		clear(r.packet[atCookie:maxBOOTP])
		copy(r.packet[atCookie:maxBOOTP], sc.msg.raw[atCookie:])
	}
	r.to, r.ifindex = destination(sc, dhcpv4.MessageTypeOffer)
	return r, true
}
