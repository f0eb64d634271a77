package dhcp

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// A reply is a packet on its way out. With a lease in it, it waits until that
// is on disk; without a packet, only the lease matters.
type reply struct {
	packet  []byte
	to      netip.AddrPort
	from    netip.Addr // our address to send from
	ifindex int        // to broadcast on; 0: as the routes say
	lease   fleet.Lease
	// Until when the client may have its address even if the lease cannot be
	// stored; zero when it may not.
	safeUntil instant
	probe     *probe // leaves when nobody answers there; nil: now
}

const flagBroadcast = 0x8000

var (
	anywhere  = netip.AddrFrom4([4]byte{})
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// build makes a reply. addr is the client's new address; none for NAK, for
// INFORM and beside another server. It fails when the packet would be longer
// than the client takes.
func (s *Server) build(sc *scene, kind dhcpv4.MessageType, addr netip.Addr) (reply, bool) {
	d := &sc.draft
	d.reset(sc.msg.flags())
	d.setByte(53, byte(kind))
	if d.setAddrs(54, sc.name); sc.beside {
		d.setAddrs(54, sc.server) // port 4011 is ours, whoever relays
	}
	if kind == dhcpv4.MessageTypeNak {
		if sc.relay.IsValid() {
			d.flags |= flagBroadcast // RFC 2131 §4.3.2: the client's address is wrong
		}
		d.setText(codeMessage, sc.why)
	} else {
		if kind == dhcpv4.MessageTypeAck {
			d.client = sc.client
		}
		if addr.IsValid() {
			d.your = addr
			leaseOptions(d, sc.leaseTime())
		}
		if !sc.beside {
			networkOptions(d, sc)
		}
		bootOptions(d, sc)
	}
	echo(d, sc)
	if !fit(d, sc) {
		s.stats.tooLong.Add(1)
		s.o.Log.Debug("dhcp answer too long", "mac", sc.mac, "limit", sc.maxReply())
		return reply{}, false
	}
	r := reply{packet: d.appendTo(make([]byte, 0, d.size()), &sc.msg), from: sc.server}
	r.to, r.ifindex = destination(sc, kind)
	return r, true
}

// destination says where a reply goes (RFC 2131 §4.1). A client without an
// address is answered by broadcast even where it would take unicast: it has no
// ARP yet, and every client takes a broadcast. So is one that says it has an
// address which is not of its network: whoever has that did not ask.
func destination(sc *scene, kind dhcpv4.MessageType) (netip.AddrPort, int) {
	switch {
	case sc.relay.IsValid():
		return netip.AddrPortFrom(sc.relay, serverPort), 0
	case sc.proxy && sc.from.Addr() != anywhere:
		return sc.from, 0
	case kind != dhcpv4.MessageTypeNak && sc.subnet.onLink(sc.client) != nil:
		return netip.AddrPortFrom(sc.client, clientPort), 0
	default:
		return netip.AddrPortFrom(broadcast, clientPort), sc.ifindex
	}
}

func leaseOptions(d *draft, lease time.Duration) {
	d.setNumber(51, seconds(lease))
	d.setNumber(58, seconds(lease/2))
	d.setNumber(59, seconds(lease/8*7))
}

func seconds(d time.Duration) uint32 {
	return uint32(min(d/time.Second, 1<<32-1)) //nolint:gosec // bounded
}

const (
	defaultLease = time.Hour
	unknownLease = 5 * time.Minute // of strangers: what they leave behind is soon free again
)

// leaseTime is how long the client may keep an address.
func (sc *scene) leaseTime() time.Duration {
	n := sc.subnet
	lease := defaultLease
	if n.Lease > 0 {
		lease = time.Duration(n.Lease) * time.Second
	}
	if sc.class != nil && sc.class.Lease > 0 {
		lease = time.Duration(sc.class.Lease) * time.Second
	}
	switch {
	case sc.kind == kindBOOTP:
		return max(lease, bootpLease)
	case sc.who.known:
		return lease
	case n.UnknownLease > 0:
		return min(lease, time.Duration(n.UnknownLease)*time.Second)
	default:
		return min(lease, unknownLease)
	}
}

// echo repeats what the client and its relay want to see again: the client
// identifier (RFC 6842), the machine identifier (RFC 4578), and the relay's
// information, whole (RFC 3046 §2.2).
func echo(d *draft, sc *scene) {
	for _, code := range []byte{61, 97, 82} {
		if v := sc.msg.option(code); v != nil {
			d.set(code, v)
		}
	}
}
