package foreign

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// What a DHCPv6 message is made of (RFC 8415 §7.3, §21; RFC 5970).
const (
	solicit6   = 1
	advertise6 = 2
	reply6     = 7
	inform6    = 11

	optClientID  = 1
	optServerID  = 2
	optIANA      = 3
	optIAAddr    = 5
	optORO       = 6
	optElapsed   = 8
	optVendor    = 16
	optDNS       = 23
	optBootURL   = 59
	optBootParam = 60
	optArch      = 61
	optNII       = 62

	server6Port = 547
	client6Port = 546
	maxDUID     = 130
)

// parseReply6 reads an Ethernet frame of IPv6: what a DHCPv6 server says to a
// client, or a router to all. What it returns is good until the frame is
// overwritten.
func parseReply6(frame []byte) (sighting, error) {
	var s sighting
	if len(frame) < etherLen+ip6Len+udpLen || frame[12] != 0x86 || frame[13] != 0xdd || frame[etherLen]>>4 != 6 {
		return s, errNotReply
	}
	ip := frame[etherLen:]
	s.MAC = net.HardwareAddr(bytes.Clone(frame[6:12]))
	s.From = netip.AddrFrom16([16]byte(ip[8:]))
	b := ip[ip6Len:]
	b = b[:min(len(b), int(binary.BigEndian.Uint16(ip[4:])))] // short frames are filled up
	switch ip[6] {
	case icmp6:
		return parseAdvert(s, ip[7], b)
	case udp:
		return parseServer6(s, b)
	default:
		return s, errNotReply
	}
}

// parseServer6 reads a DHCPv6 message in UDP.
func parseServer6(s sighting, b []byte) (sighting, error) {
	if len(b) < udpLen+4 || binary.BigEndian.Uint16(b) != server6Port || binary.BigEndian.Uint16(b[2:]) != client6Port ||
		s.From.IsUnspecified() || s.From.IsMulticast() {
		return s, errNotReply
	}
	if kind := b[udpLen]; kind != advertise6 && kind != reply6 {
		return s, errNotReply
	}
	s.Server = s.From
	ok := options6(b[udpLen+4:], func(code uint16, value []byte) {
		switch code {
		case optClientID:
			s.Client = macOfDUID(value)
		case optServerID:
			if len(value) >= 3 && len(value) <= maxDUID {
				s.DUID = hex.EncodeToString(value)
			}
		case optIANA:
			if len(value) >= 12 {
				options6(value[12:], s.address6)
			}
		case optBootURL:
			s.File = text(value)
		}
	})
	if !ok || s.DUID == "" {
		return s, errNotReply
	}
	return s, nil
}

// address6 takes the first address that is given away.
func (s *sighting) address6(code uint16, value []byte) {
	if code != optIAAddr || len(value) < 24 || s.Addr.IsValid() || binary.BigEndian.Uint32(value[20:]) == 0 {
		return
	}
	if a := netip.AddrFrom16([16]byte(value)); !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() {
		s.Addr, s.Bits = a, 128
	}
}

// options6 walks through options, and reports whether all of them are whole.
func options6(b []byte, each func(code uint16, value []byte)) bool {
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if 4+n > len(b) {
			return false
		}
		each(binary.BigEndian.Uint16(b), b[4:4+n])
		b = b[4+n:]
	}
	return len(b) == 0
}

// macOfDUID is the hardware address in a DUID-LL, which is what our probes
// have.
func macOfDUID(duid []byte) net.HardwareAddr {
	if len(duid) != 10 || !bytes.Equal(duid[:4], []byte{0, 3, 0, 1}) {
		return nil
	}
	return net.HardwareAddr(bytes.Clone(duid[4:]))
}

// probes6 returns the frames that ask who answers on a link by IPv6: a SOLICIT
// that never becomes a REQUEST, a question for options alone, and one for
// routers. They come from our own address: servers and routers answer by
// unicast.
func probes6(n Network, client fleet.MAC) [][]byte {
	if !n.Local.IsValid() {
		return nil // there is no IPv6 on it
	}
	return [][]byte{
		frame6(n, allServers, udp, packet6(solicit6, client.Hardware())),
		frame6(n, allServers, udp, packet6(inform6, client.Hardware())),
		solicitation(n),
	}
}

// packet6 writes what x86-64 UEFI asks when it boots by PXE, UDP header
// included.
func packet6(kind byte, client net.HardwareAddr) []byte {
	b := []byte{client6Port >> 8, client6Port & 0xff, server6Port >> 8, server6Port & 0xff, 0, 0, 0, 0, kind, 0, 0, 0}
	_, _ = rand.Read(b[udpLen+1 : udpLen+4])
	option := func(code uint16, value ...byte) {
		b = binary.BigEndian.AppendUint16(b, code)
		b = binary.BigEndian.AppendUint16(b, uint16(len(value))) //nolint:gosec // all are short
		b = append(b, value...)
	}
	option(optClientID, append([]byte{0, 3, 0, 1}, client...)...)
	option(optElapsed, 3, 232) // ten seconds: some servers leave the first tries to others
	option(optORO, 0, optDNS, 0, optBootURL, 0, optBootParam)
	if kind == solicit6 {
		option(optIANA, append(bytes.Clone(client[2:]), 0, 0, 0, 0, 0, 0, 0, 0)...)
	}
	class := platforms[1].class
	option(optVendor, append([]byte{0, 0, 1, 87, 0, byte(len(class))}, class...)...) // 343: Intel
	option(optArch, 0, platforms[1].arch)
	option(optNII, 1, 3, 16)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b))) //nolint:gosec // one frame
	return b
}
