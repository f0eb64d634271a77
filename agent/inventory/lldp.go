package inventory

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/rackstage/provision/api"
)

// TLV types and subtypes of IEEE 802.1AB-2016 §8.
const (
	tlvEnd     = 0
	tlvChassis = 1
	tlvPort    = 2
	tlvPortDsc = 4
	tlvSysName = 5

	chassisMAC  = 4
	chassisAddr = 5
	portMAC     = 3
	portAddr    = 4
)

var errLLDP = errors.New("not an LLDP data unit")

// parseLLDP reads the payload of an LLDP frame. It comes from the wire, so
// from anybody: every length is checked and every text is cleaned.
func parseLLDP(b []byte) (api.LLDP, error) {
	var n api.LLDP
	var described string
	for first := true; ; first = false {
		if len(b) < 2 {
			return api.LLDP{}, errLLDP
		}
		head := binary.BigEndian.Uint16(b)
		kind, length := int(head>>9), int(head&0x1ff)
		b = b[2:]
		if length > len(b) || (first && kind != tlvChassis) {
			return api.LLDP{}, errLLDP
		}
		value := b[:length]
		b = b[length:]
		switch kind {
		case tlvEnd:
			if n.Chassis == "" || n.Port == "" {
				return api.LLDP{}, errLLDP
			}
			if described != "" && isAddress(n.Port) {
				n.Port = described // "Ethernet1/7" says more than a MAC
			}
			return n, nil
		case tlvChassis:
			n.Chassis = lldpID(value, chassisMAC, chassisAddr)
		case tlvPort:
			n.Port = lldpID(value, portMAC, portAddr)
		case tlvPortDsc:
			described = lldpText(value)
		case tlvSysName:
			n.System = lldpText(value)
		}
	}
}

// lldpID reads a chassis or port ID: a subtype, then MAC, network address or
// text.
func lldpID(v []byte, mac, addr byte) string {
	if len(v) < 2 {
		return ""
	}
	kind, v := v[0], v[1:]
	switch {
	case kind == mac && len(v) == 6:
		return net.HardwareAddr(v).String()
	case kind == addr && len(v) > 1:
		// One byte of address family comes before it.
		if a, ok := netip.AddrFromSlice(v[1:]); ok {
			return a.String()
		}
		return ""
	}
	return lldpText(v)
}

func isAddress(s string) bool {
	if _, err := net.ParseMAC(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// lldpText keeps what can be printed.
func lldpText(v []byte) string {
	if !utf8.Valid(v) {
		return ""
	}
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029 {
			return -1
		}
		return r
	}, string(v))
	return strings.TrimSpace(s)
}
