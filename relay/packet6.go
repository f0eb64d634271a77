package relay

import (
	"encoding/binary"
	"net/netip"
)

// Where the fields of a message between relays and servers are (RFC 8415 §9).
const (
	atHops6    = 1
	atLink6    = 2
	atPeer6    = 18
	atOptions6 = 34

	leastPacket6 = 4 // a client's message: type and transaction
	mostHops6    = 8 // HOP_COUNT_LIMIT (RFC 8415 §7.6)

	optionMessage6 = 9
	optionPort6    = 18 // Interface-Id

	typeAdvertise6 = 2
	typeReply6     = 7
	typeForward6   = 12
	typeAnswer6    = 13 // Relay-reply
)

// fromClient6 are the messages that clients send (RFC 8415 §7.3).
var fromClient6 = map[byte]bool{1: true, 3: true, 4: true, 5: true, 6: true, 8: true, 9: true, 11: true}

// A packet6 is a DHCPv6 message as it came. A relay reads its type, and of one
// that another relay wrote the envelope; what is inside it leaves as it is.
type packet6 []byte

func (p packet6) kind() byte { return p[0] }
func (p packet6) hops() byte { return p[atHops6] }

// xid is the transaction of a client's message, three bytes.
func (p packet6) xid() uint32 { return binary.BigEndian.Uint32(p) & 0xffffff }

func (p packet6) setXID(xid uint32) {
	binary.BigEndian.PutUint32(p, uint32(p[0])<<24|xid)
}

func (p packet6) addr(at int) netip.Addr { return netip.AddrFrom16([16]byte(p[at:])) }

// wrap puts a message into an envelope for the server (RFC 8415 §19.1): on
// which link it came, from whom, and by which interface.
func wrap(p packet6, link, peer netip.Addr, hops byte, iface string) packet6 {
	out := make(packet6, atOptions6, atOptions6+8+len(iface)+len(p))
	out[0], out[atHops6] = typeForward6, hops
	copy(out[atLink6:], link.AsSlice())
	copy(out[atPeer6:], peer.AsSlice())
	out = appendOption6(out, optionPort6, []byte(iface))
	return appendOption6(out, optionMessage6, p)
}

func appendOption6(p packet6, code uint16, value []byte) packet6 {
	p = binary.BigEndian.AppendUint16(p, code)
	p = binary.BigEndian.AppendUint16(p, uint16(len(value))) //nolint:gosec // no more than a frame
	return append(p, value...)
}

// An envelope is what a server's message to a relay says.
type envelope struct {
	link, peer netip.Addr
	iface      []byte // Interface-Id; nil when there is none
	message    packet6
}

// unwrap reads the envelope of a server's message. One without a message in it,
// or with two, is none.
func unwrap(p packet6) (e envelope, ok bool) {
	if len(p) < atOptions6 || p.kind() != typeAnswer6 {
		return e, false
	}
	e.link, e.peer = p.addr(atLink6), p.addr(atPeer6)
	for rest := p[atOptions6:]; len(rest) > 0; {
		if len(rest) < 4 || len(rest) < 4+int(binary.BigEndian.Uint16(rest[2:])) {
			return e, false
		}
		code, end := binary.BigEndian.Uint16(rest), 4+int(binary.BigEndian.Uint16(rest[2:]))
		switch value := rest[4:end]; {
		case code == optionMessage6 && e.message != nil, code == optionPort6 && e.iface != nil:
			return e, false
		case code == optionMessage6:
			e.message = value
		case code == optionPort6:
			e.iface = value
		}
		rest = rest[end:]
	}
	return e, len(e.message) >= leastPacket6
}
