package dhcp6

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// The types of DUIDs that say something about the machine (RFC 8415 §11, RFC
// 6355).
const (
	duidLLT  = 1
	duidLL   = 3
	duidUUID = 4

	ethernet = 1 // hardware type

	minDUID, maxDUID = 3, 130 // a type and at least a byte; RFC 8415 §11.1
)

// A duid is a client's identifier as it is sent.
type duid []byte

func (d duid) kind() uint16 { return binary.BigEndian.Uint16(d) }

func (d duid) hex() string { return hex.EncodeToString(d) }

// canonical is the form in which the DUIDs of one machine are the same. A
// DUID-UUID comes in SMBIOS order from UEFI and in RFC 9562 order from iPXE,
// and nothing in it says which one it is: the lesser of the two stands for
// both.
func (d duid) canonical() string {
	if d.kind() != duidUUID || len(d) != 18 {
		return d.hex()
	}
	swapped := swapUUID([16]byte(d[2:]))
	if other := append(duid{0, duidUUID}, swapped[:]...); other.hex() < d.hex() {
		return other.hex()
	}
	return d.hex()
}

// swapUUID turns SMBIOS order into RFC 9562 order, and back.
func swapUUID(b [16]byte) [16]byte {
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5] = b[5], b[4]
	b[6], b[7] = b[7], b[6]
	return b
}

// uuid returns the SMBIOS UUID in RFC 9562 form. iPXE sends it in that order,
// firmware in that of the SMBIOS.
func (d duid) uuid(ipxe bool) string {
	if d.kind() != duidUUID || len(d) != 18 || [16]byte(d[2:]) == [16]byte{} {
		return ""
	}
	raw := [16]byte(d[2:])
	if ipxe {
		raw = swapUUID(raw)
	}
	return fleet.UUIDFromSMBIOS(raw)
}

// mac returns the MAC address in a DUID-LL or DUID-LLT.
func (d duid) mac() fleet.MAC {
	if len(d) < 4 || binary.BigEndian.Uint16(d[2:]) != ethernet {
		return ""
	}
	switch {
	case d.kind() == duidLL && len(d) == 10:
		return macOf(net.HardwareAddr(d[4:]))
	case d.kind() == duidLLT && len(d) == 14:
		return macOf(net.HardwareAddr(d[8:]))
	default:
		return ""
	}
}

// macOf wants six bytes that are one station's: not zero, not a group.
func macOf(hw net.HardwareAddr) fleet.MAC {
	if len(hw) != 6 || hw[0]&1 != 0 || [6]byte(hw) == [6]byte{} {
		return ""
	}
	return fleet.MAC(hw.String())
}

// macOfLinkLocal reads the MAC address out of a link-local address that was
// made of it (modified EUI-64: RFC 4291 §2.5.1). Firmware, iPXE and most
// systems make theirs so; one that hides its MAC does not.
func macOfLinkLocal(a netip.Addr) fleet.MAC {
	b := a.As16()
	if !a.Is6() || !a.IsLinkLocalUnicast() || b[11] != 0xff || b[12] != 0xfe {
		return ""
	}
	return macOf(net.HardwareAddr{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]})
}
