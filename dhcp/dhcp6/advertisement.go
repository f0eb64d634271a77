package dhcp6

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
)

// An advertisement is what a Router Advertisement says (RFC 4861 §4.2).
//
// The zero one says as little as one can: hop limit 64, no prefix, no DHCPv6,
// and a router lifetime of 0, which means "I am not your router".
type advertisement struct {
	managed  bool          // flags M and O: ask DHCPv6, for an address and for all else
	lifetime time.Duration // as a default router; 0: we are none
	hardware net.HardwareAddr
	mtu      int
	subnets  []fleet.Subnet // whose prefixes are on the link
	dns      []netip.Addr
}

// Options of ICMPv6 neighbour discovery (RFC 4861 §4.6, RFC 8106 §5.1).
const (
	ndSource = 1
	ndPrefix = 3
	ndMTU    = 5
	ndRDNSS  = 25

	flagsManaged    = 0xc0 // M and O
	flagOnLink      = 0x80
	flagAutonomous  = 0x40
	prefixValid     = 2 * time.Hour
	prefixPreferred = time.Hour
	routerLife      = 30 * time.Minute // of a default router, without another word from it
	advertiseEvery  = time.Minute
	dnsLife         = 3 * advertiseEvery
)

// body is the message without its ICMPv6 header.
func (a advertisement) body() []byte {
	b := make([]byte, 12, 128)
	b[0] = 64
	if a.managed {
		b[1] = flagsManaged
	}
	binary.BigEndian.PutUint16(b[2:], uint16(a.lifetime/time.Second)) //nolint:gosec // half an hour
	if len(a.hardware) == 6 {
		b = append(append(b, ndSource, 1), a.hardware...)
	}
	if a.mtu > 0 {
		b = binary.BigEndian.AppendUint32(append(b, ndMTU, 1, 0, 0), uint32(a.mtu)) //nolint:gosec // 1280 to 65535
	}
	for _, n := range a.subnets {
		flags := byte(flagOnLink)
		if n.SLAAC {
			flags |= flagAutonomous
		}
		b = append(b, ndPrefix, 4, byte(n.CIDR.Bits()), flags) //nolint:gosec // at most 128
		b = binary.BigEndian.AppendUint32(b, seconds(prefixValid))
		b = binary.BigEndian.AppendUint32(b, seconds(prefixPreferred))
		b = append(append(b, 0, 0, 0, 0), n.CIDR.Masked().Addr().AsSlice()...)
	}
	if dns := a.dns[:min(len(a.dns), 8)]; len(dns) > 0 {
		b = append(b, ndRDNSS, byte(1+2*len(dns)), 0, 0)
		b = binary.BigEndian.AppendUint32(b, seconds(dnsLife))
		for _, d := range dns {
			b = append(b, d.AsSlice()...)
		}
	}
	return b
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) } //nolint:gosec // hours

// lifetimeOf reads, out of the body of somebody's advertisement, for how long
// it wants to be a default router.
func lifetimeOf(body []byte) (time.Duration, bool) {
	if len(body) < 12 {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint16(body[2:])) * time.Second, true
}

// advertisementFor says what we advertise on a link, if anything. Where a
// subnet of IPv6 is served it is the truth about it. Where only IPv4 is, it is
// the zero advertisement, as a courtesy: iPXE asks for routers on every card
// and waits 13 to 16 seconds when nobody answers, although it got its IPv4
// address long ago.
func advertisementFor(l links.Link, subnets []fleet.Subnet) (a advertisement, courtesy, ok bool) {
	for _, n := range subnets {
		if !n.Mode.GivesAddresses() || !n.CIDR.IsValid() {
			continue // we say nothing at all where we only observe
		}
		if !containsAny(n.CIDR, l.Prefixes) {
			continue
		}
		if n.CIDR.Addr().Is4() {
			courtesy = true
			continue
		}
		ok = true
		a.managed, a.hardware = true, l.Hardware
		a.subnets = append(a.subnets, n)
		a.dns = append(a.dns, n.DNS...)
		if n.MTU > 0 {
			a.mtu = n.MTU
		}
		// A default router only where site.yaml says so, and the address is ours.
		if n.Router.IsValid() && (l.Own(n.Router) || n.Router == l.Local) {
			a.lifetime = routerLife
		}
	}
	return a, courtesy && !ok, ok || courtesy
}

func containsAny(cidr netip.Prefix, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if cidr.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
