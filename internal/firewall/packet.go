package firewall

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Packet is one that a machine sends to us, or we to it: UDP, or the first of
// a TCP connection.
type Packet struct {
	Iface       string // that it comes in by, or leaves by
	Out         bool   // we send it
	TCP         bool
	From, To    netip.AddrPort
	Established bool // an answer, by UDP
}

const (
	ethertype4, ethertype6 = 0x0800, 0x86dd
	atProto4, atAddrs4     = 9, 12
	atProto6, atAddrs6     = 6, 8
	portsAt, flagsAt       = 0, 13
	flagSYN                = 2
)

func (p *Packet) six() bool { return p.To.Addr().Is6() }

func (p *Packet) protocol() byte {
	if p.TCP {
		return unix.IPPROTO_TCP
	}
	return unix.IPPROTO_UDP
}

// network is its IP header.
func (p *Packet) network() []byte {
	h, proto, addrs := make([]byte, 20), atProto4, atAddrs4
	h[0] = 0x45
	if p.six() {
		h, proto, addrs = make([]byte, 40), atProto6, atAddrs6
		h[0] = 0x60
	}
	h[proto] = p.protocol()
	n := copy(h[addrs:], p.From.Addr().AsSlice())
	copy(h[addrs+n:], p.To.Addr().AsSlice())
	return h
}

// transport is its UDP or TCP header.
func (p *Packet) transport() []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h[portsAt:], p.From.Port())
	binary.BigEndian.PutUint16(h[portsAt+2:], p.To.Port())
	if p.TCP {
		h[flagsAt] = flagSYN
	}
	return h
}

// payload returns bytes of a header; nil when they are not known.
func (p *Packet) payload(e *expr.Payload) []byte {
	var h []byte
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		h = p.network()
	case expr.PayloadBaseTransportHeader:
		h = p.transport()
	default:
	}
	if uint64(e.Offset)+uint64(e.Len) > uint64(len(h)) {
		return nil
	}
	return h[e.Offset : e.Offset+e.Len]
}

// meta returns what the kernel knows of it besides; nil when we do not.
func (p *Packet) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyIIFNAME:
		return p.name(!p.Out)
	case expr.MetaKeyOIFNAME:
		return p.name(p.Out)
	case expr.MetaKeyIIF:
		return p.index(!p.Out)
	case expr.MetaKeyOIF:
		return p.index(p.Out)
	case expr.MetaKeyNFPROTO:
		if p.six() {
			return []byte{unix.NFPROTO_IPV6}
		}
		return []byte{unix.NFPROTO_IPV4}
	case expr.MetaKeyL4PROTO:
		return []byte{p.protocol()}
	case expr.MetaKeyPROTOCOL:
		if p.six() {
			return binary.BigEndian.AppendUint16(nil, ethertype6)
		}
		return binary.BigEndian.AppendUint16(nil, ethertype4)
	case expr.MetaKeyPKTTYPE:
		return []byte{p.packetType()}
	default:
	}
	return nil
}

// name is its interface's, on that side; there is none on the other.
func (p *Packet) name(there bool) []byte {
	if !there {
		return make([]byte, unix.IFNAMSIZ)
	}
	return padded(p.Iface, unix.IFNAMSIZ)
}

func (p *Packet) index(there bool) []byte {
	if !there {
		return make([]byte, 4)
	}
	if i, err := net.InterfaceByName(p.Iface); err == nil {
		return native(uint32(i.Index)) //nolint:gosec // small
	}
	return nil
}

func (p *Packet) packetType() byte {
	switch to := p.To.Addr(); {
	case to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return unix.PACKET_BROADCAST
	case to.IsMulticast():
		return unix.PACKET_MULTICAST
	default:
		return unix.PACKET_HOST
	}
}

// state is its connection's, as a bit.
func (p *Packet) state() uint32 {
	if p.Established {
		return expr.CtStateBitESTABLISHED
	}
	return expr.CtStateBitNEW
}

func padded(s string, n int) []byte {
	b := make([]byte, n)
	copy(b, s)
	return b
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// registers are where the kernel's machine keeps values: four of 16 bytes, or
// sixteen of 4, in the same place. A word that was never set, or by something
// that we do not know, is not known.
type registers struct {
	b     [64]byte
	known [16]bool
}

// at returns where a register begins.
func at(reg uint32) int {
	switch {
	case reg >= unix.NFT_REG_1 && reg <= unix.NFT_REG_4:
		return int(reg-unix.NFT_REG_1) * 16 //nolint:gosec // at most 3
	case reg >= unix.NFT_REG32_00 && reg <= unix.NFT_REG32_15:
		return int(reg-unix.NFT_REG32_00) * 4 //nolint:gosec // at most 15
	default:
		return -1
	}
}

// set sets a register, and the rest of its last word to zero. Without a value
// it is not known from there on.
func (r *registers) set(reg uint32, value []byte) {
	i := at(reg)
	if i < 0 {
		return
	}
	if value == nil {
		for w := i / 4; w < min(i/4+4, len(r.known)); w++ {
			r.known[w] = false
		}
		return
	}
	value = append(bytes.Clone(value), make([]byte, (4-len(value)%4)%4)...)
	n := copy(r.b[i:], value)
	for w := i / 4; w < (i+n)/4; w++ {
		r.known[w] = true
	}
}

// get returns so many bytes from a register on; nil when some are not known.
func (r *registers) get(reg uint32, n int) []byte {
	i := at(reg)
	if i < 0 || i+n > len(r.b) {
		return nil
	}
	for w := i / 4; w < (i+n+3)/4; w++ {
		if !r.known[w] {
			return nil
		}
	}
	return r.b[i : i+n]
}
