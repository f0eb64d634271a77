package relay

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// maxHops is where we believe in a loop of relays (RFC 1542 §4.1.1).
const maxHops = 16

// What one machine may send: firmware sends four packets in a boot, and again
// each when it hears nothing.
const (
	macBurst = 20
	macRate  = 2 // per second
	maxMACs  = 1 << 14
)

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

// rules say what becomes of a packet. They keep no state but counters, rates,
// and who asked lately.
type rules struct {
	name    string // the relay's: remote id
	server  netip.AddrPort
	chained bool // other relays behind us are believed
	rates   *throttle.Throttle[[6]byte]
	asked   *recent[[6]byte] // whom an answer may be for
	stats   *stats
}

// stats are counters since the start.
type stats struct {
	requests, relayed, replied, away, bootp                atomic.Int64
	malformed, looped, foreignInfo, rate, stranger, unsent atomic.Int64
}

// refused is how many packets of machines were dropped.
func (s *stats) refused() int64 {
	return s.malformed.Load() + s.looped.Load() + s.foreignInfo.Load() + s.rate.Load()
}

func newRules(name string, server netip.AddrPort, chained bool, now func() time.Time, st *stats) *rules {
	return &rules{name: name, server: server, chained: chained, rates: throttle.New[[6]byte](maxMACs, macBurst, macRate, now), asked: newRecent[[6]byte](now), stats: st}
}

// admit says whether a machine's packet, which came in on a port, goes any
// further. ours are the addresses of all our ports.
func (r *rules) admit(p packet, ours func(netip.Addr) bool) bool {
	r.stats.requests.Add(1)
	if p.check() != nil {
		r.stats.malformed.Add(1)
		return false
	}
	switch gi := p.giaddr(); {
	case p.hops() >= maxHops, gi.IsValid() && ours(gi):
		r.stats.looped.Add(1) // our own packet came back
		return false
	case gi.IsValid() && !r.chained:
		r.stats.foreignInfo.Add(1)
		return false
	case !gi.IsValid() && p.hasInfo():
		// No machine sends it: who does wants to be taken for another port
		// (RFC 3046 §2.1.1).
		r.stats.foreignInfo.Add(1)
		return false
	}
	if !r.rates.Allow(p.mac()) {
		r.stats.rate.Add(1)
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

// A delivery is a reply on its way to a machine.
type delivery struct {
	packet packet
	to     netip.AddrPort
	port   port
}

var broadcast = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68)

// down makes of a server's reply the one that goes to the machine. It fails
// for whatever is none of ours: the network of the server is not ours to
// trust.
func (r *rules) down(p packet, from netip.AddrPort, portOf func(netip.Addr) (port, bool)) (delivery, bool) {
	if from != r.server {
		r.stats.stranger.Add(1)
		return delivery{}, false
	}
	to, ok := port{}, false
	if p.check() == nil && p.op() == bootReply {
		to, ok = portOf(p.giaddr())
	}
	if !ok {
		r.stats.malformed.Add(1)
		return delivery{}, false
	}
	if !r.asked.has(p.mac()) {
		r.stats.stranger.Add(1) // nobody here asked, and the server would not speak first
		return delivery{}, false
	}
	out, info, err := p.withoutInfo()
	if err != nil || info != nil && !bytes.Equal(info, infoFor(to, r.name)) {
		r.stats.malformed.Add(1) // not what we asked with
		return delivery{}, false
	}
	r.stats.replied.Add(1)
	return delivery{packet: out, to: destination(out), port: to}, true
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
