package fleet

import (
	"errors"
	"fmt"
)

// ownOptions are the DHCP options that nobody can set by number, with the
// reason, or the key that sets them.
var ownOptions = map[uint8]string{
	0: "it is padding", 255: "it is the end of the options",
	1: "it follows from cidr", 28: "it follows from cidr",
	12: "write hostname: in a reservation; nodes have their names from their pool",
	50: "clients ask with it", 51: "write lease: instead", 52: "the server uses it where a packet is full",
	53: "it is the kind of packet", 54: "it is the server's own address", 55: "clients ask with it",
	56: "the server says with it why it refuses", 57: "clients say with it what they take",
	58: "it follows from lease", 59: "it follows from lease", 61: "it is the client's own",
	66: "write boot_server: in a class", 67: "write boot_file: in a class",
	77: "it is the client's own", 81: "names are given by hostname:", 82: "it is the relay's own",
	90: "packets are not signed", 91: "it answers lease queries", 92: "it answers lease queries",
	93: "it is the client's own", 94: "it is the client's own", 97: "it is the client's own",
	118: "it is the client's own", 175: "it is for iPXE, which the server talks to itself",
}

// keyOptions are the options that a subnet has words for. Classes, pools and
// reservations set them by number, over those of the subnet.
var keyOptions = map[uint8]string{
	3: "router", 6: "dns", 15: "domain", 26: "mtu", 42: "ntp", 119: "search", 121: "routes", 249: "ms_routes",
}

// validateOptions checks options that are set by number.
func validateOptions(on string, options []DHCPOption, subnet bool) error {
	var errs []error
	if len(options) > maxOptions {
		return Invalidf(on+".options", "", fmt.Errorf("%d options; at most %d are taken", len(options), maxOptions))
	}
	seen := make(map[uint8]bool, len(options))
	for i, o := range options {
		on := fmt.Sprintf("%s.options[%d].code", on, i)
		why, own := ownOptions[o.Code]
		key, word := keyOptions[o.Code]
		switch {
		case own:
			errs = append(errs, Invalidf(on, why, fmt.Errorf("option %d is not for site.yaml to set", o.Code)))
		case word && subnet:
			errs = append(errs, Invalidf(on, "write "+key+": instead", fmt.Errorf("option %d of a subnet has a key of its own", o.Code)))
		case seen[o.Code]:
			errs = append(errs, Invalidf(on, "keep one of them", fmt.Errorf("option %d is set twice", o.Code)))
		case len(o.Data) > maxOptionLen:
			errs = append(errs, Invalidf(on, "shorten its value", fmt.Errorf("option %d has %d bytes; it can have %d", o.Code, len(o.Data), maxOptionLen)))
		}
		seen[o.Code] = true
	}
	return errors.Join(errs...)
}
