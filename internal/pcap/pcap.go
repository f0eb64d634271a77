// Package pcap reads captures of real machines, for tests and benchmarks:
// files of tcpdump, with Ethernet frames.
package pcap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Frames returns the Ethernet frames of a capture.
func Frames(name string) (frames [][]byte, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	order := binary.LittleEndian
	if len(b) < 24 || order.Uint32(b) != 0xa1b2c3d4 && order.Uint32(b) != 0xa1b23c4d { // the latter counts nanoseconds
		return nil, fmt.Errorf("%s is no capture", name)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(order.Uint32(b[8:]))
		if n > len(b)-16 {
			return nil, fmt.Errorf("%s is cut off", name)
		}
		frames = append(frames, b[16:16+n])
		b = b[16+n:]
	}
	return frames, nil
}

// A Packet is what a frame brings by UDP, or by TCP.
type Packet struct {
	TCP      bool
	From, To netip.AddrPort
	Data     []byte
}

// Packets returns the UDP and TCP packets of a capture that bring something.
func Packets(name string) (packets []Packet, err error) {
	frames, err := Frames(name)
	if err != nil {
		return nil, err
	}
	for _, f := range frames {
		if p, ok := Parse(f); ok && len(p.Data) > 0 {
			packets = append(packets, p)
		}
	}
	return packets, nil
}

// Requests returns the heads of the HTTP requests in a capture, each without the
// empty line at its end.
func Requests(name string) (heads []string, err error) {
	packets, err := Packets(name)
	for _, p := range packets {
		head, whole := strings.CutSuffix(string(p.Data), "\r\n\r\n")
		if whole && p.TCP && (strings.HasPrefix(head, "GET ") || strings.HasPrefix(head, "HEAD ")) {
			heads = append(heads, head)
		}
	}
	return heads, err
}

// ARP returns the ARP packets of a capture.
func ARP(name string) (packets [][]byte, err error) {
	frames, err := Frames(name)
	for _, f := range frames {
		if len(f) >= 14 && binary.BigEndian.Uint16(f[12:]) == 0x0806 {
			packets = append(packets, f[14:])
		}
	}
	return packets, err
}

// ICMP returns the messages of ICMP and ICMPv6 of a capture.
func ICMP(name string) (messages [][]byte, err error) {
	frames, err := Frames(name)
	for _, f := range frames {
		if d, ok := open(f); ok && (d.proto == protoICMP || d.proto == protoICMP6) {
			messages = append(messages, d.inner)
		}
	}
	return messages, err
}

const (
	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
)

// A datagram is what a frame brings by IP.
type datagram struct {
	proto    byte
	from, to netip.Addr
	inner    []byte
}

// open reads an Ethernet frame with IPv4 or IPv6, without extension headers.
func open(frame []byte) (d datagram, ok bool) {
	if len(frame) < 14 {
		return d, false
	}
	ip := frame[14:]
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == 0x0800 && len(ip) >= 20:
		head, all := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if head < 20 || all < head || all > len(ip) {
			return d, false
		}
		return datagram{ip[9], netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), ip[head:all]}, true
	case etherType == 0x86dd && len(ip) >= 40:
		all := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if all > len(ip) {
			return d, false
		}
		return datagram{ip[6], netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), ip[40:all]}, true
	}
	return d, false
}

// Parse reads an Ethernet frame with UDP or TCP over IPv4 or IPv6.
func Parse(frame []byte) (p Packet, ok bool) {
	d, ok := open(frame)
	if !ok {
		return p, false
	}
	inner, head := d.inner, 8
	switch {
	case d.proto == protoUDP && len(inner) >= 8:
	case d.proto == protoTCP && len(inner) >= 20:
		p.TCP, head = true, int(inner[12]>>4)*4
	default:
		return p, false
	}
	if head > len(inner) {
		return p, false
	}
	p.From = netip.AddrPortFrom(d.from, binary.BigEndian.Uint16(inner))
	p.To = netip.AddrPortFrom(d.to, binary.BigEndian.Uint16(inner[2:]))
	p.Data = inner[head:]
	return p, true
}
