package foreign

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// imaginaryClient makes up a hardware address of the kind that nobody sells:
// locally administered. It stays the same while we run, so that a server that
// we ask again and again keeps one offer for it, not many.
func imaginaryClient() fleet.MAC {
	hw := make(net.HardwareAddr, 6)
	_, _ = rand.Read(hw) // never fails since Go 1.24
	hw[0] = hw[0]&^1 | 2
	return fleet.MAC(hw.String())
}

const (
	discover = 1
	request  = 3
)

// platforms are the kinds of firmware that we ask as: boot servers answer
// those only that they have a file for.
var platforms = []struct {
	arch  byte
	class string
}{
	{0, "PXEClient:Arch:00000:UNDI:002001"},
	{7, "PXEClient:Arch:00007:UNDI:003016"},
}

// probes returns the frames that ask who answers on a network: DISCOVERs, and
// where we have an address also the request that firmware sends to port 4011.
//
// They leave with the interface's own hardware address: switches may shut a
// port down that shows another one.
func probes(n Network, client fleet.MAC) (frames [][]byte) {
	everybody := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	for _, p := range platforms {
		q := question{client: client.Hardware(), arch: p.arch, class: p.class}
		q.kind = discover
		frames = append(frames, frame(n.MAC, netip.IPv4Unspecified(), everybody, serverPort, q.packet()))
		if i := slices.IndexFunc(n.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() }); i >= 0 {
			q.kind, q.addr = request, n.Addrs[i].Addr()
			frames = append(frames, frame(n.MAC, q.addr, everybody, pxePort, q.packet()))
		}
	}
	return frames
}

// A question is what a probe asks.
type question struct {
	client net.HardwareAddr
	kind   byte
	arch   byte
	class  string
	addr   netip.Addr // that the client has; invalid: none
}

// packet writes it as firmware does (RFC 2131, RFC 4578).
func (q question) packet() []byte {
	b := make([]byte, 240, 548)
	b[0], b[1], b[2] = 1, 1, 6
	_, _ = rand.Read(b[4:8])
	b[9] = 8 // seconds: some servers leave the first tries to others
	if q.addr.IsValid() {
		copy(b[12:16], q.addr.AsSlice())
	} else {
		b[10] = 0x80 // answer by broadcast
	}
	copy(b[28:44], q.client)
	copy(b[236:240], cookie)
	option := func(code byte, value ...byte) {
		b = append(append(b, code, byte(len(value))), value...) //nolint:gosec // all are short
	}
	option(53, q.kind)
	option(57, 5, 192)
	option(55, 1, 3, 6, 43, 54, 60, 66, 67)
	option(60, []byte(q.class)...)
	option(93, 0, q.arch)
	option(94, 1, 3, 16)
	option(97, append(make([]byte, 11), q.client...)...)
	b = append(b, 255)
	return b[:max(len(b), 300)]
}

// frame wraps a packet from the client's port in UDP, IPv4 and Ethernet. The
// UDP checksum is left out, as RFC 768 allows.
func frame(from net.HardwareAddr, src, dst netip.Addr, port uint16, payload []byte) []byte {
	b := make([]byte, 0, etherLen+ipLen+udpLen+len(payload))
	b = append(append(append(b, broadcastMAC...), from...), 8, 0)
	ip := []byte{0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+udpLen+len(payload))) //nolint:gosec // one frame
	ip = append(append(ip, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, clientPort)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload))) //nolint:gosec // one frame
	b = append(b, 0, 0)
	return append(b, payload...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // folded
}
