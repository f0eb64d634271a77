// Package pcap reads captures of real machines, for tests and benchmarks:
// files of tcpdump, with Ethernet frames.
package pcap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
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

const (
	protoTCP = 6
	protoUDP = 17
)

// Parse reads an Ethernet frame with UDP or TCP over IPv4 or IPv6.
func Parse(frame []byte) (p Packet, ok bool) {
	if len(frame) < 14 {
		return p, false
	}
	ip := frame[14:]
	var proto byte
	var from, to netip.Addr
	var inner []byte
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == 0x0800 && len(ip) >= 20:
		head, all := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if head < 20 || all < head || all > len(ip) {
			return p, false
		}
		proto, inner = ip[9], ip[head:all]
		from, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case etherType == 0x86dd && len(ip) >= 40:
		all := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if all > len(ip) {
			return p, false
		}
		proto, inner = ip[6], ip[40:all]
		from, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	}
	head := 8
	switch {
	case proto == protoUDP && len(inner) >= 8:
	case proto == protoTCP && len(inner) >= 20:
		p.TCP, head = true, int(inner[12]>>4)*4
	default:
		return p, false
	}
	if head > len(inner) {
		return p, false
	}
	p.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(inner))
	p.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(inner[2:]))
	p.Data = inner[head:]
	return p, true
}
