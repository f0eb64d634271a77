package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// An Advert is what a router tells the machines on its link (RFC 4861 §4.2).
type Advert struct {
	Managed  bool          // addresses come from DHCPv6
	Other    bool          // the rest does
	Lifetime time.Duration // as a default router; 0: it is none
	Prefixes []Prefix
}

// A Prefix is one that a router says is on the link.
type Prefix struct {
	netip.Prefix

	Auto bool // machines shall make addresses of it themselves
}

// maxPrefixes is more than a router has for one link.
const maxPrefixes = 16

func (a Advert) words() (words []string) {
	if a.Lifetime > 0 {
		words = append(words, fmt.Sprintf("default router for %s", a.Lifetime))
	}
	switch {
	case a.Managed:
		words = append(words, "addresses by DHCPv6")
	case a.Other:
		words = append(words, "options by DHCPv6")
	default:
		words = append(words, "no DHCPv6")
	}
	for _, p := range a.Prefixes {
		text := "prefix " + p.String()
		if p.Auto {
			text += " for addresses of their own"
		}
		words = append(words, text)
	}
	return words
}

const (
	icmpSolicit   = 133
	icmpAdvertise = 134
	ndSource      = 1
	ndPrefix      = 3
)

// parseAdvert reads an advertisement as it follows the IPv6 header.
func parseAdvert(s sighting, hops byte, b []byte) (sighting, error) {
	if len(b) < 16 || b[0] != icmpAdvertise || b[1] != 0 || hops != 255 || !s.From.IsLinkLocalUnicast() {
		return s, errNotReply
	}
	s.Router, s.Server = true, s.From
	s.Advert.Managed, s.Advert.Other = b[5]&0x80 != 0, b[5]&0x40 != 0
	s.Advert.Lifetime = time.Duration(binary.BigEndian.Uint16(b[6:])) * time.Second
	for b = b[16:]; len(b) >= 8; {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return s, errNotReply // RFC 4861 §4.6: the whole of it is discarded
		}
		if p, ok := parsePrefix(b[:n]); ok && len(s.Advert.Prefixes) < maxPrefixes {
			s.Advert.Prefixes = append(s.Advert.Prefixes, p)
		}
		b = b[n:]
	}
	return s, nil
}

// parsePrefix reads the option of one; not one that is over.
func parsePrefix(o []byte) (Prefix, bool) {
	if o[0] != ndPrefix || len(o) != 32 || o[2] > 128 || binary.BigEndian.Uint32(o[4:]) == 0 {
		return Prefix{}, false
	}
	p := netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:])), int(o[2])).Masked()
	if p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
		return Prefix{}, false
	}
	return Prefix{Prefix: p, Auto: o[3]&0x40 != 0}, true
}

// solicitation asks all routers of a link to advertise at once.
func solicitation(n Network) []byte {
	body := append([]byte{icmpSolicit, 0, 0, 0, 0, 0, 0, 0, ndSource, 1}, n.MAC...)
	return frame6(n, allRouters, icmp6, body)
}

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
	allServers = netip.MustParseAddr("ff02::1:2") // All_DHCP_Relay_Agents_and_Servers
)

// groupMAC is where frames to an IPv6 multicast address go.
func groupMAC(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return append(net.HardwareAddr{0x33, 0x33}, b[12:]...)
}

const (
	udp   = 17
	icmp6 = 58
)

// frame6 wraps a UDP or ICMPv6 packet in IPv6 and Ethernet, and puts the
// checksum into it.
func frame6(n Network, to netip.Addr, proto byte, payload []byte) []byte {
	b := append(append(append(make([]byte, 0, etherLen+ip6Len+len(payload)), groupMAC(to)...), n.MAC...), 0x86, 0xdd)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload))) //nolint:gosec // one frame
	b = append(b, proto, 255)
	b = append(append(b, n.Local.AsSlice()...), to.AsSlice()...)
	pseudo := append(bytes.Clone(b[etherLen+8:]), 0, 0, byte(len(payload)>>8), byte(len(payload)), 0, 0, 0, proto)
	pseudo = append(pseudo, payload...)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	sum, at := checksum(pseudo), 2
	if proto == udp {
		at = 6
		if sum == 0 {
			sum = 0xffff // RFC 8200 §8.1
		}
	}
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[etherLen+ip6Len+at:], sum)
	return b
}
