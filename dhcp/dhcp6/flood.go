package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

const (
	gateBurst = 40                     // firmware, loader and system of one machine, and their retries
	gateEvery = 100 * time.Millisecond // one packet, in the long run
)

// A source is who a packet is from: through which relay, and from which client
// behind it.
type source struct{ relay, client netip.Addr }

const (
	atPeer    = 18 // of the peer-address in a relay's message (RFC 8415 §9)
	atOptions = 34 // of its options
)

// sourceOf finds who a packet is from, before anything else is read of it.
func sourceOf(b []byte, from netip.Addr) source {
	from = from.WithZone("")
	who := source{client: from}
	for range maxHops {
		if len(b) < atOptions || dhcpv6.MessageType(b[0]) != dhcpv6.MessageTypeRelayForward {
			break
		}
		who = source{relay: from, client: netip.AddrFrom16([16]byte(b[atPeer:atOptions]))}
		b = relayedIn(b[atOptions:])
	}
	return who
}

// relayedIn returns the message that a relay wrapped, out of its options.
func relayedIn(b []byte) []byte {
	for len(b) >= 4 {
		code, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; size > len(b) {
			return nil
		}
		if dhcpv6.OptionCode(code) == dhcpv6.OptionRelayMsg {
			return b[:size]
		}
		b = b[size:]
	}
	return nil
}
