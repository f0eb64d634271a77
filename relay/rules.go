package relay

import (
	"bytes"
	"net/netip"
	"time"
)

// maxHops is where we believe in a loop of relays (RFC 1542 §4.1.1).
const maxHops = 16

// A port is an interface with machines behind it.
type port struct {
	name  string
	index int
	addr  netip.Prefix   // ours there: the giaddr; invalid when there is no IPv4
	six   []netip.Prefix // ours there of IPv6, no link-local ones

	// Addresses of IPv6 that machines are not told of.
	ending   []netip.Addr // deprecated: those who use them still may
	doubtful []netip.Addr // it is not known yet that nobody else has them (RFC 4862 §5.4)
	refused  []netip.Addr // somebody has
}

// rules say what becomes of a packet of IPv4.
type rules struct {
	guard[[6]byte]
	name string // the relay's: remote id
}

func newRules(name string, server netip.AddrPort, chained bool, now func() time.Time, st *stats) *rules {
	r := &rules{name: name}
	r.begin(server, chained, now, st)
	return r
}

// admit says whether a machine's packet, which came in on a port, goes any
// further. ours are the addresses of all our ports.
func (r *rules) admit(p packet, ours func(netip.Addr) bool) bool {
	r.stats.requests.Add(1)
	if p.check() != nil {
		return r.refuse(&r.stats.malformed)
	}
	switch gi := p.giaddr(); {
	case p.hops() >= maxHops, gi.IsValid() && ours(gi):
		return r.refuse(&r.stats.looped) // our own packet came back
	case gi.IsValid() && !r.chained:
		return r.refuse(&r.stats.foreignInfo)
	case !gi.IsValid() && p.hasInfo():
		// No machine sends it: who does wants to be taken for another port
		// (RFC 3046 §2.1.1).
		return r.refuse(&r.stats.foreignInfo)
	}
	if !r.mayAsk(p.mac()) {
		return false
	}
	if p.plain() {
		r.stats.bootp.Add(1)
	}
	return true
}

func (p packet) hasInfo() bool { _, ok := p.find(optionInfo); return ok }

// up makes of a machine's packet the one that goes to the server. What another
// relay has filled in already stays as it is.
func (r *rules) up(p packet, from port) (packet, bool) {
	var out packet
	if p.giaddr().IsValid() {
		out = bytes.Clone(p)
	} else {
		var err error
		if out, err = p.withInfo(infoFor(from, r.name)); err != nil {
			r.stats.malformed.Add(1)
			return nil, false
		}
		out.setGIAddr(from.addr.Addr())
	}
	out[atHops]++
	r.asked.add(p.mac())
	return out, true
}

var broadcast = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68)

// down makes of a server's reply the one that goes to the machine. It fails
// for whatever is none of ours: the network of the server is not ours to
// trust.
func (r *rules) down(p packet, from netip.AddrPort, portOf func(netip.Addr) (port, bool)) (d delivery[packet], ok bool) {
	if !r.isServer(from) {
		return d, false
	}
	if p.check() == nil && p.op() == bootReply {
		d.port, ok = portOf(p.giaddr())
	}
	if !ok {
		return d, r.refuse(&r.stats.malformed)
	}
	if !r.hasAsked(p.mac()) {
		return d, false
	}
	out, info, err := p.withoutInfo()
	if err != nil || info != nil && !bytes.Equal(info, infoFor(d.port, r.name)) {
		return d, r.refuse(&r.stats.malformed) // not what we asked with
	}
	r.stats.replied.Add(1)
	d.packet, d.to = out, destination(out)
	return d, true
}

// destination says where a machine hears us. One that has no address yet is
// answered by broadcast even where it would take unicast: it has no ARP, and
// every client takes a broadcast.
func destination(p packet) netip.AddrPort {
	if ci := p.addr(atCIAddr); ci.IsValid() && p.kind() != typeNak && !p.wantsBroadcast() {
		return netip.AddrPortFrom(ci, 68)
	}
	return broadcast
}

func (p packet) wantsBroadcast() bool { return p[atFlags]&(flagBroadcast>>8) != 0 }
