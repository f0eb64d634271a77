package dhcp

import (
	"errors"
	"net"
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

// A query is a client's packet, understood.
type query struct {
	arrival
	msg    *dhcpv4.DHCPv4
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

// parseQuery reads a packet. Whatever it holds was written by a stranger.
func parseQuery(b []byte, a arrival) (query, error) {
	msg, err := dhcpv4.FromBytes(b)
	if err != nil {
		return query{}, err
	}
	switch {
	case msg.OpCode != dhcpv4.OpcodeBootRequest:
		return query{}, errNotRequest // another server's answer, or op 0
	case msg.HopCount > maxHops:
		return query{}, errHops
	case !isEthernet(msg.ClientHWAddr):
		return query{}, errHardware
	case msg.MessageType() == dhcpv4.MessageTypeNone:
		return query{}, errNoType // plain BOOTP
	}
	q := query{
		arrival: a, msg: msg, kind: msg.MessageType(), mac: fleet.MAC(msg.ClientHWAddr.String()),
		client: addrOf(msg.ClientIPAddr), wanted: addrOf(msg.RequestedIPAddress()),
		chosen: addrOf(msg.ServerIdentifier()), relay: addrOf(msg.GatewayIPAddr),
	}
	q.boot = pxe.Request{
		MAC: q.mac, UUID: uuidOf(msg), Addr: q.client, Relay: q.relay, Arch: archOf(msg),
		Firmware: pxe.FirmwareOf(msg.ClassIdentifier(), msg.Options.Get(dhcpv4.OptionUserClassInformation)),
	}
	return q, nil
}

// isEthernet wants six bytes that are one station's: not zero, not a group.
func isEthernet(hw net.HardwareAddr) bool {
	return len(hw) == 6 && hw[0]&1 == 0 && [6]byte(hw) != [6]byte{}
}

func addrOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// archOf returns the first architecture of option 93.
func archOf(msg *dhcpv4.DHCPv4) pxe.Arch {
	b := msg.Options.Get(dhcpv4.OptionClientSystemArchitectureType)
	if len(b) < 2 {
		return pxe.BIOS // RFC 4578 is younger than many a ROM
	}
	return pxe.Arch(b[0])<<8 | pxe.Arch(b[1])
}

// uuidOf reads option 97: a zero and the sixteen bytes as the SMBIOS has them.
func uuidOf(msg *dhcpv4.DHCPv4) string {
	b := msg.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	if len(b) != 17 || b[0] != 0 || [16]byte(b[1:]) == [16]byte{} {
		return ""
	}
	return fleet.UUIDFromSMBIOS([16]byte(b[1:]))
}

// linkSelection is suboption 5 of option 82 (RFC 3527): the network that the
// client is on, where giaddr is only the way back to the relay.
func (q query) linkSelection() netip.Addr {
	info := q.msg.RelayAgentInfo()
	if info == nil {
		return netip.Addr{}
	}
	return addrOf(net.IP(info.Get(dhcpv4.LinkSelectionSubOption)))
}

// maxReply is the longest payload that the client takes: option 57 less the
// headers, never less than RFC 2131 demands of every client, never more than
// goes into one frame.
func (q query) maxReply() int {
	const headers, least, most = 28, 576, 1500
	size := least
	if b := q.msg.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(b) == 2 {
		size = int(b[0])<<8 | int(b[1])
	}
	return min(max(size, least), most) - headers
}
