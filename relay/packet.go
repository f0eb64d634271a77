package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// Where the fields of a DHCPv4 packet are (RFC 2131 §2).
const (
	atOp      = 0
	atHType   = 1
	atHLen    = 2
	atHops    = 3
	atXID     = 4
	atFlags   = 10
	atCIAddr  = 12
	atYIAddr  = 16
	atGIAddr  = 24
	atCHAddr  = 28
	atCookie  = 236
	atOptions = 240

	leastPacket = 300 // BOOTP's; some ROMs and relays drop what is shorter
	mostPacket  = 1472

	bootRequest   = 1
	bootReply     = 2
	flagBroadcast = 0x8000

	optionPad       = 0
	optionRequested = 50
	optionType      = 53
	optionServer    = 54
	optionInfo      = 82
	optionEnd       = 255

	typeRequest = 3
	typeNak     = 6
)

var cookie = []byte{99, 130, 83, 99}

var (
	errShort    = errors.New("too short for DHCP")
	errLong     = errors.New("longer than a frame")
	errHardware = errors.New("not an Ethernet client")
	errOptions  = errors.New("an option is cut off")
)

// A packet is a DHCPv4 packet as it came. A relay looks at little of it and
// leaves the rest as it is, byte for byte.
type packet []byte

// check says whether a packet is one that we look at any further.
func (p packet) check() error {
	switch {
	case len(p) < atCookie:
		return errShort
	case len(p) > mostPacket:
		return errLong
	case p[atHType] != 1 || p[atHLen] != 6 || p[atCHAddr]&1 != 0 || [6]byte(p[atCHAddr:]) == [6]byte{}:
		return errHardware
	}
	return nil
}

// plain reports whether this is BOOTP as it was before DHCP (RFC 951): what
// follows the fixed fields is the vendor's, and no options. Nothing is put into
// it or looked for in it.
func (p packet) plain() bool {
	return len(p) < atOptions || !bytes.Equal(p[atCookie:atOptions], cookie)
}

func (p packet) op() byte               { return p[atOp] }
func (p packet) hops() byte             { return p[atHops] }
func (p packet) mac() [6]byte           { return [6]byte(p[atCHAddr:]) }
func (p packet) xid() uint32            { return binary.BigEndian.Uint32(p[atXID:]) }
func (p packet) giaddr() netip.Addr     { return p.addr(atGIAddr) }
func (p packet) setGIAddr(a netip.Addr) { copy(p[atGIAddr:], a.AsSlice()) }

// addr returns an address field; invalid when it is empty.
func (p packet) addr(at int) netip.Addr {
	a := netip.AddrFrom4([4]byte(p[at:]))
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// options walks over the options: do gets each with its place, until it
// returns false. end is where the options end: at the end mark, or where the
// packet does. Options that are not whole are an error.
func (p packet) options(do func(code byte, from, to int) bool) (end int, err error) {
	if p.plain() {
		return len(p), nil
	}
	for i := atOptions; i < len(p); {
		switch code := p[i]; {
		case code == optionEnd:
			return i, nil
		case code == optionPad:
			i++
		case i+1 >= len(p) || i+2+int(p[i+1]) > len(p):
			return 0, errOptions
		default:
			to := i + 2 + int(p[i+1])
			if !do(code, i, to) {
				return i, nil
			}
			i = to
		}
	}
	return len(p), nil
}

// find returns the value of the first option with this code.
func (p packet) find(code byte) (value []byte, found bool) {
	_, _ = p.options(func(c byte, from, to int) bool {
		if c == code {
			value, found = p[from+2:to], true
		}
		return !found
	})
	return value, found
}

// kind is the message type; 0 when there is none.
func (p packet) kind() byte {
	if v, ok := p.find(optionType); ok && len(v) == 1 {
		return v[0]
	}
	return 0
}

// withInfo returns the packet with option 82 as its last option (RFC 3046
// §2.1). One that would not fit into a frame, or that has no options, goes as
// it is: the server then knows the relay by giaddr alone.
func (p packet) withInfo(info []byte) (packet, error) {
	if p.plain() {
		return packet(bytes.Clone(p)).padded(), nil
	}
	end, err := p.options(func(byte, int, int) bool { return true })
	if err != nil {
		return nil, err
	}
	if end+2+len(info)+1 > mostPacket || len(info) > 255 {
		return bytes.Clone(p), nil
	}
	out := make(packet, end, max(leastPacket, end+2+len(info)+1))
	copy(out, p)
	out = append(append(out, optionInfo, byte(len(info))), info...)
	out = append(out, optionEnd)
	return out.padded(), nil
}

// withoutInfo returns the packet without any option 82, and the value of the
// first that was there.
func (p packet) withoutInfo() (out packet, info []byte, err error) {
	if p.plain() {
		return packet(bytes.Clone(p)).padded(), nil, nil
	}
	out = append(make(packet, 0, len(p)), p[:atOptions]...)
	end, err := p.options(func(code byte, from, to int) bool {
		switch {
		case code != optionInfo:
			out = append(out, p[from:to]...)
		case info == nil:
			info = p[from+2 : to]
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	_ = end // what follows is padding
	return append(out, optionEnd).padded(), info, nil
}

func (p packet) padded() packet {
	for len(p) < leastPacket {
		p = append(p, optionPad)
	}
	return p
}

// Suboptions of option 82.
const (
	subCircuit  = 1
	subRemote   = 2
	subServerID = 11
)

// infoFor is the value of option 82 for a port: the interface as the circuit,
// the relay's name as the remote end (RFC 3046 §3.1, §3.2), and our address as
// the one that clients shall know the server by (RFC 5107): what they renew
// their leases with comes to us then, and we know the way.
func infoFor(p port, name string) []byte {
	var b []byte
	for _, sub := range []struct {
		code  byte
		value []byte
	}{{subCircuit, []byte(p.name)}, {subRemote, []byte(name)}, {subServerID, p.addr.Addr().AsSlice()}} {
		v := sub.value[:min(len(sub.value), 100)]
		b = append(append(b, sub.code, byte(len(v))), v...)
	}
	return b
}

// request is the packet with which a client takes an address that a server
// offered it (SELECTING, RFC 2131 §4.3.2); without a server, one that it had
// before (INIT-REBOOT).
func request(mac [6]byte, addr, server netip.Addr, xid uint32) packet {
	p := make(packet, atOptions, leastPacket)
	p[atOp], p[atHType], p[atHLen] = bootRequest, 1, 6
	binary.BigEndian.PutUint32(p[atXID:], xid)
	binary.BigEndian.PutUint16(p[atFlags:], flagBroadcast)
	copy(p[atCHAddr:], mac[:])
	copy(p[atCookie:], cookie)
	p = append(p, optionType, 1, typeRequest, optionRequested, 4)
	p = append(p, addr.AsSlice()...)
	if server.IsValid() {
		p = append(append(p, optionServer, 4), server.AsSlice()...)
	}
	return append(p, optionEnd).padded()
}
