package dhcp

import (
	"errors"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// An arrival is what the socket says about a packet.
type arrival struct {
	ifindex int
	from    netip.AddrPort
	to      netip.Addr // its destination: ours, or a broadcast address
	proxy   bool       // came to port 4011
}

// A query is a client's message, understood.
type query struct {
	arrival
	msg    message
	kind   dhcpv4.MessageType
	hw     hwaddr
	mac    fleet.MAC  // the same
	client netip.Addr // ciaddr: the address that it has; invalid when none
	wanted netip.Addr // option 50; invalid when none
	chosen netip.Addr // option 54: the server that it chose; invalid when none
	relay  netip.Addr // giaddr; invalid when none
	boot   pxe.Request

	believed bool // the relay is one of those that may say where the client is
}

// Kinds of messages that are not RFC 2131's.
const (
	kindBOOTP           = dhcpv4.MessageType(0) // none at all
	kindLeaseQuery      = 10                    // RFC 4388 §6.1
	kindLeaseUnassigned = dhcpv4.MessageType(11)
	kindLeaseUnknown    = dhcpv4.MessageType(12)
	kindLeaseActive     = dhcpv4.MessageType(13)
)

const (
	maxHops     = 16  // where we believe in a relay loop (RFC 1542 §4.1.1)
	maxClientID = 255 // bytes; in pieces (RFC 3396) it could be as long as the packet, and leases keep it
)

var (
	errNotRequest = errors.New("not a request")
	errHardware   = errors.New("not an Ethernet client")
	errHops       = errors.New("too many hops")
	errClientID   = errors.New("too long a client identifier")
)

// parse reads a packet. Whatever it holds was written by a stranger.
func (q *query) parse(b []byte, a arrival) error {
	if err := q.msg.parse(b); err != nil {
		return err
	}
	hw, ok := q.msg.hardware()
	switch {
	case q.msg.op() != opRequest:
		return errNotRequest // another server's answer, or op 0
	case q.msg.hops() > maxHops:
		return errHops
	case !ok && q.msg.kind() != kindLeaseQuery:
		return errHardware
	case len(q.msg.option(codeClientID)) > maxClientID:
		return errClientID
	}
	q.arrival, q.kind, q.hw, q.mac = a, dhcpv4.MessageType(q.msg.kind()), hw, macOf(hw)
	q.client, q.relay, q.believed = q.msg.client(), q.msg.relay(), false
	if q.kind == dhcpv4.MessageTypeDiscover {
		q.client = netip.Addr{} // it has none (RFC 2131 table 5): the offer would go to whom it pleases
	}
	q.wanted, q.chosen = q.msg.addrOption(50), q.msg.addrOption(54)
	q.boot = pxe.Request{
		MAC: q.mac, UUID: q.uuid(), Addr: q.client, Relay: q.relay, Arch: q.arch(),
		Firmware: pxe.FirmwareOf(string(q.msg.option(60)), q.msg.option(77)),
	}
	q.boot.OldIPXE = q.boot.Firmware == pxe.IPXE && pxe.IsOldIPXE(q.msg.option(175))
	return nil
}

// macOf writes an address in the form of [fleet.MAC].
func macOf(hw [6]byte) fleet.MAC {
	const digits = "0123456789abcdef"
	var b [17]byte
	for i, v := range hw {
		if i > 0 {
			b[3*i-1] = ':'
		}
		b[3*i], b[3*i+1] = digits[v>>4], digits[v&15]
	}
	return fleet.MAC(b[:])
}

// arch returns the first architecture of option 93.
func (q *query) arch() pxe.Arch {
	b := q.msg.option(93)
	if len(b) < 2 {
		return pxe.BIOS // RFC 4578 is younger than many a ROM
	}
	return pxe.Arch(b[0])<<8 | pxe.Arch(b[1])
}

// uuid reads option 97: a zero and the sixteen bytes as the SMBIOS has them.
func (q *query) uuid() string {
	b := q.msg.option(97)
	if len(b) != 17 || b[0] != 0 || [16]byte(b[1:]) == [16]byte{} {
		return ""
	}
	return fleet.UUIDFromSMBIOS([16]byte(b[1:]))
}

// maxReply is the longest payload that the client takes: option 57 less the
// headers, never less than RFC 2131 demands of every client, never more than
// goes into one frame.
func (q *query) maxReply() int {
	const headers, least, most = 28, 576, 1500
	size := least
	if b := q.msg.option(57); len(b) == 2 {
		size = int(b[0])<<8 | int(b[1])
	}
	return min(max(size, least), most) - headers
}
