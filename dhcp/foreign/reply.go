package foreign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A sighting is one reply of another server, as far as it is of interest.
type sighting struct {
	MAC    net.HardwareAddr // that the frame came from
	From   netip.Addr       // that the packet came from
	Server netip.Addr       // as it names itself; or From
	DUID   string           // of a DHCPv6 server, in hex
	Client net.HardwareAddr // whom it answers; nil where that cannot be told
	Relay  netip.Addr       // it came through; invalid: none
	Addr   netip.Addr       // that it gives away; invalid: none
	Bits   int              // of that address's network; 0: not said
	NAK    bool
	PXE    bool   // it calls itself a boot server
	File   string // to boot; hostile text
	Router bool   // a router says it
	Advert Advert
	Twin   bool // it names us
}

// proxy reports whether the reply is one that gives boot information only.
func (s *sighting) proxy() bool {
	if s.DUID != "" {
		return !s.Addr.IsValid() && s.File != ""
	}
	return !s.NAK && !s.Addr.IsValid() && s.PXE
}

// full reports whether the reply is of a server that gives addresses. One of
// DHCPv4 that says nothing else does.
func (s *sighting) full() bool {
	if s.DUID != "" || s.Router {
		return s.Addr.IsValid()
	}
	return !s.proxy()
}

var (
	errNotReply = errors.New("not a reply of a DHCP server")

	cookie = []byte{99, 130, 83, 99}
)

const (
	offerType = 2
	ackType   = 5
	nakType   = 6
)

// parseReply reads an Ethernet frame. What it returns is good until the frame
// is overwritten.
func parseReply(frame []byte) (sighting, error) {
	var s sighting
	if len(frame) < etherLen+ipLen || frame[12] != 8 || frame[13] != 0 || frame[etherLen]>>4 != 4 {
		return s, errNotReply
	}
	header := int(frame[etherLen]&15) * 4
	if header < ipLen || len(frame) < etherLen+header+udpLen {
		return s, errNotReply
	}
	udp := frame[etherLen+header:]
	port := binary.BigEndian.Uint16(udp)
	if port != serverPort && port != pxePort {
		return s, errNotReply
	}
	s.MAC = net.HardwareAddr(bytes.Clone(frame[6:12]))
	s.From = netip.AddrFrom4([4]byte(frame[etherLen+12:]))
	b := udp[udpLen:]
	if len(b) < 240 || b[0] != bootReplyOp || b[2] != 6 || !bytes.Equal(b[236:240], cookie) {
		return s, errNotReply
	}
	s.Client = net.HardwareAddr(bytes.Clone(b[28:34]))
	s.Addr, s.Relay = addrAt(b[16:]), addrAt(b[24:])
	s.File = text(b[108:236])
	kind := s.options(b[240:])
	if kind != offerType && kind != ackType && kind != nakType {
		return s, errNotReply
	}
	s.NAK = kind == nakType
	s.PXE = s.PXE || port == pxePort
	if !s.Server.IsValid() {
		s.Server = s.From
	}
	return s, nil
}

// options reads those that say something about the server, and returns the
// type of the message.
func (s *sighting) options(b []byte) (kind byte) {
	for len(b) > 1 && b[0] != 255 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		n := int(b[1])
		if 2+n > len(b) {
			return kind
		}
		value := b[2 : 2+n]
		switch b[0] {
		case 1:
			if n == 4 {
				s.Bits = bits.LeadingZeros32(^binary.BigEndian.Uint32(value))
			}
		case 53:
			if n == 1 {
				kind = value[0]
			}
		case 54:
			if n == 4 {
				s.Server = addrAt(value)
			}
		case 60:
			s.PXE = s.PXE || bytes.HasPrefix(value, []byte("PXEClient")) || bytes.HasPrefix(value, []byte("HTTPClient"))
		case 67:
			s.File = text(value)
		}
		b = b[2+n:]
	}
	return kind
}

// addrAt reads an address; none where it is zero.
func addrAt(b []byte) netip.Addr {
	if a := netip.AddrFrom4([4]byte(b)); !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return fleet.CleanText(strings.ToValidUTF8(string(b), ""))
}
