package pxe

import (
	"net/netip"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A Firmware is the kind of program that asks: it decides what it can load,
// and from where.
type Firmware string

// The kinds of firmware.
const (
	NoBoot Firmware = ""     // an operating system that wants an address only
	ROM    Firmware = "rom"  // PXE ROM or UEFI PXE: a loader by TFTP
	HTTP   Firmware = "http" // UEFI HTTP boot: a loader by HTTP
	IPXE   Firmware = "ipxe" // iPXE, as ROM or loaded by us: a script by HTTP
	GRUB   Firmware = "grub" // GRUB, loaded by us behind shim: a script by HTTP or TFTP
)

// Classes that clients put into option 60, followed by their architecture.
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// userClassIPXE is what iPXE puts into option 77. It tells iPXE by it and by
// nothing else: its architecture and class are those of the firmware it runs
// on, and after an HTTP boot it says PXEClient all the same.
const userClassIPXE = "iPXE"

// A Request is what a machine that wants to boot says about itself.
type Request struct {
	MAC      fleet.MAC
	UUID     string // RFC 9562 form; "" when it said none
	Arch     Arch
	Firmware Firmware
	OldIPXE  bool       // iPXE that knows no HTTPS: one in a ROM, not ours
	Addr     netip.Addr // its address, as far as it has one
	Server   netip.Addr // our address as the machine sees it
	Port     uint16     // of our HTTP boot listener; 0 is 80, or 443
	Secure   bool       // that listener speaks TLS
	Subnet   string     // name of the subnet that it is on
	NoPassOn bool       // the answer has no way to end the firmware's PXE: by IPv6, and beside another server
	Relay    netip.Addr // the relay that it came through; invalid when none
	Quirk    fleet.Quirk
}

// FirmwareOf tells the firmware by vendor class (option 60) and user class
// (option 77).
func FirmwareOf(vendorClass string, userClass []byte) Firmware {
	switch {
	case IsIPXE(userClass):
		return IPXE
	case strings.HasPrefix(vendorClass, classHTTP):
		return HTTP
	case strings.HasPrefix(vendorClass, classPXE):
		return ROM
	default:
		return NoBoot
	}
}

// IsOldIPXE tells by the features that iPXE lists in option 175: one that lacks
// HTTPS (sub-option 20) is not the one that we hand out.
func IsOldIPXE(features []byte) bool {
	const https = 20
	for rest := features; len(rest) >= 2 && len(rest)-2 >= int(rest[1]); rest = rest[2+int(rest[1]):] {
		if rest[0] == https {
			return false
		}
	}
	return len(features) > 0
}

// IsIPXE reports whether option 77 names iPXE.
func IsIPXE(userClass []byte) bool { return HasUserClass(userClass, userClassIPXE) }

// HasUserClass reports whether option 77 names a class. iPXE sends the bare
// word; RFC 3004 wants a list of strings, each behind its length, and some
// relays and builds send that.
func HasUserClass(userClass []byte, name string) bool {
	if string(userClass) == name {
		return true
	}
	for rest := userClass; len(rest) > 0; {
		n := int(rest[0])
		if n == 0 || n >= len(rest) {
			return false
		}
		if string(rest[1:1+n]) == name {
			return true
		}
		rest = rest[1+n:]
	}
	return false
}
