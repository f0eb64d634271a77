package dhcp

import (
	"encoding/binary"
	"net"
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
}

const flagBroadcast = 0x8000

var (
	anywhere  = netip.AddrFrom4([4]byte{})
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// build makes a reply. addr is the client's new address; none for NAK, for
// INFORM and beside another server. It fails when the packet would be longer
// than the client takes.
func (s *Server) build(sc scene, kind dhcpv4.MessageType, addr netip.Addr) (reply, bool) {
	msg := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: sc.msg.HWType, ClientHWAddr: sc.msg.ClientHWAddr,
		TransactionID: sc.msg.TransactionID, Flags: sc.msg.Flags,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero,
		GatewayIPAddr: sc.msg.GatewayIPAddr, Options: make(dhcpv4.Options, 24),
	}
	o := msg.Options
	o[53] = []byte{byte(kind)}
	o[54] = sc.server.AsSlice()
	if kind == dhcpv4.MessageTypeNak {
		if sc.relay.IsValid() {
			msg.Flags |= flagBroadcast // RFC 2131 §4.3.2: the client's address is wrong
		}
	} else {
		if kind == dhcpv4.MessageTypeAck {
			msg.ClientIPAddr = sc.msg.ClientIPAddr
		}
		if addr.IsValid() {
			msg.YourIPAddr = addr.AsSlice()
			leaseOptions(o, leaseTime(sc.subnet))
		}
		if sc.subnet.Mode != fleet.Proxy {
			networkOptions(o, sc)
		}
		bootOptions(msg, sc)
	}
	echo(o, sc)
	packet, ok := fit(msg, sc.maxReply())
	if !ok {
		s.o.Log.Debug("dhcp answer too long", "mac", sc.mac, "limit", sc.maxReply())
		return reply{}, false
	}
	r := reply{packet: packet, from: sc.server}
	r.to, r.ifindex = destination(sc, kind)
	return r, true
}

// destination says where a reply goes (RFC 2131 §4.1). A client without an
// address is answered by broadcast even where it would take unicast: it has no
// ARP yet, and every client takes a broadcast.
func destination(sc scene, kind dhcpv4.MessageType) (netip.AddrPort, int) {
	switch {
	case sc.relay.IsValid():
		return netip.AddrPortFrom(sc.relay, serverPort), 0
	case sc.proxy && sc.from.Addr() != anywhere:
		return sc.from, 0
	case kind != dhcpv4.MessageTypeNak && sc.client.IsValid():
		return netip.AddrPortFrom(sc.client, clientPort), 0
	default:
		return netip.AddrPortFrom(broadcast, clientPort), sc.ifindex
	}
}

func leaseOptions(o dhcpv4.Options, lease time.Duration) {
	o[51] = seconds(lease)
	o[58] = seconds(lease / 2)
	o[59] = seconds(lease / 8 * 7)
}

func seconds(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(min(d/time.Second, 1<<32-1))) //nolint:gosec // bounded
}

func networkOptions(o dhcpv4.Options, sc scene) {
	n := sc.subnet
	o[1] = net.CIDRMask(n.CIDR.Bits(), 32)
	o[28] = broadcastOf(n.CIDR).AsSlice()
	if n.Router.IsValid() {
		o[3] = n.Router.AsSlice()
	}
	if dns := addresses(n.DNS); len(dns) > 0 {
		o[6] = dns
	}
	if ntp := addresses(n.NTP); len(ntp) > 0 {
		o[42] = ntp
	}
	if n.Domain != "" {
		o[15] = []byte(n.Domain)
	}
	if fleet.ValidName(sc.node.Name) {
		o[12] = []byte(sc.node.Name)
	}
}

func addresses(list []netip.Addr) []byte {
	var b []byte
	for _, a := range list[:min(len(list), 8)] {
		b = append(b, a.AsSlice()...)
	}
	return b
}

// echo repeats what the client and its relay want to see again: the client
// identifier (RFC 6842), the machine identifier (RFC 4578), and the relay's
// information, whole (RFC 3046 §2.2).
func echo(o dhcpv4.Options, sc scene) {
	for _, code := range []uint8{61, 97, 82} {
		if b, ok := sc.msg.Options[code]; ok {
			o[code] = b
		}
	}
}

// spare are the options that a client can boot without, least wanted first.
var spare = []uint8{12, 15, 42, 28, 6, 66, 59, 58, 3}

// fit writes the packet and leaves out spare options until it is short enough.
// The codec pads to 300 bytes, which old ROMs insist on.
func fit(msg *dhcpv4.DHCPv4, limit int) ([]byte, bool) {
	b := msg.ToBytes()
	for _, code := range spare {
		if len(b) <= limit {
			break
		}
		if msg.Options.Has(dhcpv4.GenericOptionCode(code)) {
			delete(msg.Options, code)
			b = msg.ToBytes()
		}
	}
	return b, len(b) <= limit
}
