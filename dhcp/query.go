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
	mac    fleet.MAC
	client netip.Addr // ciaddr: the address that it has; invalid when none
	wanted netip.Addr // option 50; invalid when none
	chosen netip.Addr // option 54: the server that it chose; invalid when none
	relay  netip.Addr // giaddr; invalid when none
	boot   pxe.Request
}

// maxHops is where we believe in a relay loop (RFC 1542 §4.1.1).
const maxHops = 16

var (
	errNotRequest = errors.New("not a request")
	errHardware   = errors.New("not an Ethernet client")
	errHops       = errors.New("too many hops")
	errNoType     = errors.New("no message type")
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
	case !ok:
		return errHardware
	case q.msg.kind() == 0:
		return errNoType // plain BOOTP
	}
	q.arrival, q.kind, q.mac = a, dhcpv4.MessageType(q.msg.kind()), macOf(hw)
	q.client, q.relay = q.msg.client(), q.msg.relay()
	q.wanted, q.chosen = q.msg.addrOption(50), q.msg.addrOption(54)
	q.boot = pxe.Request{
		MAC: q.mac, UUID: q.uuid(), Addr: q.client, Relay: q.relay, Arch: q.arch(),
		Firmware: pxe.FirmwareOf(string(q.msg.option(60)), q.msg.option(77)),
	}
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

// linkSelection is suboption 5 of option 82 (RFC 3527): the network that the
// client is on, where giaddr is only the way back to the relay.
func (q *query) linkSelection() netip.Addr {
	return addrOf(suboption(q.msg.option(82), 5))
}

// suboption returns a value from an option that is made of codes, lengths and
// values itself, as options 43 and 82 are; nil when it is not there, or the
// option is broken before.
func suboption(b []byte, code byte) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == code {
			return b[2 : 2+int(b[1])]
		}
		b = b[2+int(b[1]):]
	}
	return nil
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
