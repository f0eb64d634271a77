package fleet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (s Site) validateSubnets() error {
	var errs []error
	for i, n := range s.Subnets {
		on := fmt.Sprintf("subnets[%d]", i)
		if !n.CIDR.IsValid() || n.CIDR.Addr().Is4In6() {
			errs = append(errs, Invalidf(on+".cidr", "write a network such as 10.77.0.0/24 or fd77::/64", errors.New("not a network")))
			continue
		}
		switch n.Mode {
		case Observe, Proxy, Reserved, Full:
		default:
			errs = append(errs, Invalidf(on+".mode", "use observe, proxy, reserved or full", fmt.Errorf("unknown mode %q", n.Mode)))
		}
		for j, o := range s.Subnets[:i] {
			if o.CIDR.Overlaps(n.CIDR) {
				errs = append(errs, Invalidf(on+".cidr", "", fmt.Errorf("overlaps subnets[%d] %s", j, o.CIDR)))
			}
		}
		errs = append(errs, n.validateFamily(on), n.validateRanges(on), n.validateNetwork(on), n.validateClasses(on), n.validateReservations(on))
	}
	return errors.Join(errs...)
}

// validateRanges checks that every range is one, inside of the network, and
// that no address is in two of them.
func (n Subnet) validateRanges(on string) error {
	var errs []error
	check := func(on string, ranges []AddrRange) {
		for _, r := range ranges {
			if !n.CIDR.Contains(r.First) || !n.CIDR.Contains(r.Last) || r.Last.Less(r.First) {
				errs = append(errs, Invalidf(on, "give first and last address inside "+n.CIDR.String(), fmt.Errorf("range %s-%s", r.First, r.Last)))
			}
		}
	}
	check(on+".ranges", n.Ranges)
	check(on+".exclude", n.Exclude)
	all := slices.Clone(n.Ranges)
	classes := false
	for i, c := range n.Classes {
		check(fmt.Sprintf("%s.classes[%d].ranges", on, i), c.Ranges)
		all = append(all, c.Ranges...)
		classes = classes || len(c.Ranges) > 0
	}
	slices.SortFunc(all, func(a, b AddrRange) int { return a.First.Compare(b.First) })
	for i := 1; i < len(all); i++ {
		if all[i-1].Contains(all[i].First) {
			errs = append(errs, Invalidf(on+".ranges", "give each address to one range only, of the subnet or of a class",
				fmt.Errorf("%s-%s overlaps %s-%s", all[i].First, all[i].Last, all[i-1].First, all[i-1].Last)))
		}
	}
	if n.Mode == Full && len(n.Ranges) == 0 && !classes {
		errs = append(errs, Invalidf(on+".ranges", "add ranges: [first-last], or use mode reserved", errors.New("mode full has no addresses to give")))
	}
	return errors.Join(errs...)
}

// What one option can hold, and what a packet can: a reply must fit into one
// frame.
const (
	maxOptionLen = 255
	maxOptions   = 64
	maxClasses   = 256
)

// validateNetwork checks what the clients are told about their network.
func (n Subnet) validateNetwork(on string) error {
	var errs []error
	bad := func(key, hint, format string, args ...any) {
		errs = append(errs, Invalidf(on+"."+key, hint, fmt.Errorf(format, args...)))
	}
	if n.Link != "" && !ValidName(n.Link) {
		errs = append(errs, badName(on+".link", n.Link))
	}
	if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) { // RFC 2132 §5.1 has 68 for the least; nobody boots with that
		bad("mtu", "write the MTU of the link, such as 1500 or 9000", "MTU %d", n.MTU)
	}
	if n.UnknownShare < 0 || n.UnknownShare > 100 {
		bad("unknown_share", "write the percent of the ranges that machines nobody has approved may have", "%d percent", n.UnknownShare)
	}
	if len(n.DNS) > 8 || len(n.NTP) > 8 {
		bad("dns", "name those that are nearest", "more than 8 servers")
	}
	for _, a := range n.KnownDHCP {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			bad("known_dhcp", "write the address that the alarm names", "%s is not the address of a server", a)
		}
	}
	for _, d := range n.KnownDUIDs {
		if raw, err := hex.DecodeString(d); err != nil || len(raw) < 3 || len(raw) > 130 {
			bad("known_dhcp", "write the DUID that the alarm names: duid:0003000152540012abcd", "%q is not the DUID of a server", clip(d, 80))
		}
	}
	for _, r := range n.Relays {
		if n.CIDR.Addr().Is4() && (!r.Is4() || r.IsUnspecified()) {
			bad("relays", "write the relay's address on this subnet", "%s is not the address of a relay", r)
		}
	}
	return errors.Join(append(errs, n.validateLists(on), validateOptions(on, n.Options, true))...)
}

// validateLists checks routes and domains, of which only so many go into an
// option.
func (n Subnet) validateLists(on string) error {
	var errs []error
	bad := func(key, hint, format string, args ...any) {
		errs = append(errs, Invalidf(on+"."+key, hint, fmt.Errorf(format, args...)))
	}
	size := 0
	for _, r := range n.Routes {
		size += 5 + (r.To.Bits()+7)/8
		if !r.To.IsValid() || !r.To.Addr().Is4() || r.To != r.To.Masked() || !n.CIDR.Contains(r.Via) {
			bad("routes", "write network and gateway: 10.0.0.0/8 via "+n.CIDR.Addr().Next().String(), "route to %s via %s, which is not on %s", r.To, r.Via, n.CIDR)
		}
	}
	if size > maxOptionLen {
		bad("routes", "join networks into larger ones", "the routes take %d bytes of an option of %d", size, maxOptionLen)
	}
	size = 0
	for _, d := range append([]string{n.Domain}, n.Search...) {
		size += len(d) + 2
		if d != "" && !validDomain(d) {
			bad("search", "write domains such as rack.example.org", "%q is not a domain", clip(d, 80))
		}
	}
	if size > maxOptionLen {
		bad("search", "search fewer domains", "the domains take %d bytes of an option of %d", size, maxOptionLen)
	}
	return errors.Join(errs...)
}

// validDomain reports whether s is a domain name: labels of letters, digits
// and dashes (RFC 1123).
func validDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.ToLower(s), ".") {
		if !ValidName(label) {
			return false
		}
	}
	return true
}

func (n Subnet) validateClasses(on string) error {
	var errs []error
	if len(n.Classes) > maxClasses {
		errs = append(errs, Invalidf(on+".classes", "", fmt.Errorf("%d classes; at most %d are taken", len(n.Classes), maxClasses)))
	}
	for i, c := range n.Classes[:min(len(n.Classes), maxClasses)] {
		on := fmt.Sprintf("%s.classes[%d]", on, i)
		if !ValidName(c.Name) {
			errs = append(errs, badName(on+".name", c.Name))
		}
		if slices.IndexFunc(n.Classes, func(o DHCPClass) bool { return o.Name == c.Name }) != i {
			errs = append(errs, Invalidf(on+".name", "", fmt.Errorf("class %q is declared twice", c.Name)))
		}
		m := c.Match
		if m.Vendor == "" && m.User == "" && len(m.Arch) == 0 && m.MACPrefix == "" && m.CircuitID == "" && m.RemoteID == "" {
			errs = append(errs, Invalidf(on+".match", "say which clients are of it: vendor, user, arch, mac, circuit_id or remote_id", errors.New("the class matches everybody")))
		}
		if !validMACPrefix(m.MACPrefix) {
			errs = append(errs, Invalidf(on+".match.mac", "write the first bytes with colons: 52:54:00", fmt.Errorf("MAC prefix %q", clip(m.MACPrefix, 40))))
		}
		for _, a := range m.Arch {
			if a < 0 || a > 65535 {
				errs = append(errs, Invalidf(on+".match.arch", "write numbers of the IANA registry: 0 is BIOS, 7 is x86-64 UEFI", fmt.Errorf("architecture %d", a)))
			}
		}
		if len(c.BootFile) > 127 || strings.ContainsFunc(c.BootFile, func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, Invalidf(on+".boot_file", "write a file name or a URL of at most 127 characters", fmt.Errorf("boot file %q", clip(c.BootFile, 80))))
		}
		errs = append(errs, validateOptions(on, c.Options, false))
	}
	return errors.Join(errs...)
}

func (n Subnet) validateReservations(on string) error {
	var errs []error
	addrs, clients := make(map[netip.Addr]int), make(map[string]int)
	for i, r := range n.Reservations {
		on := fmt.Sprintf("%s.reservations[%d]", on, i)
		ways := 0
		for _, set := range []bool{r.MAC != "", r.ClientID != "", r.CircuitID != "" || r.RemoteID != ""} {
			if set {
				ways++
			}
		}
		if ways != 1 {
			errs = append(errs, Invalidf(on, "name the client by mac, by client_id, or by circuit_id and remote_id", fmt.Errorf("a reservation names its client in %d ways", ways)))
		}
		who := fmt.Sprintf("%s|%s|%s|%s", r.MAC, r.ClientID, r.CircuitID, r.RemoteID)
		if j, twice := clients[who]; twice {
			errs = append(errs, Invalidf(on, "keep one of them", fmt.Errorf("reservations[%d] is for the same client", j)))
		}
		clients[who] = i
		if _, err := hex.DecodeString(r.ClientID + r.CircuitID + r.RemoteID); err != nil || (r.MAC != "" && cleanMAC(r.MAC) != r.MAC) {
			errs = append(errs, Invalidf(on, "", errors.New("a reservation keeps identifiers in hex and the MAC with colons")))
		}
		if r.Hostname != "" && !ValidName(r.Hostname) {
			errs = append(errs, badName(on+".hostname", r.Hostname))
		}
		errs = append(errs, n.validateReserved(on, r.Addr, addrs, i), validateOptions(on, r.Options, false))
	}
	return errors.Join(errs...)
}

// validateReserved checks the address of a reservation.
func (n Subnet) validateReserved(on string, a netip.Addr, taken map[netip.Addr]int, i int) error {
	if !a.IsValid() {
		return nil
	}
	on += ".address"
	j, twice := taken[a]
	taken[a] = i
	switch {
	case !n.CIDR.Contains(a):
		return Invalidf(on, "give an address inside "+n.CIDR.String(), fmt.Errorf("%s is not on this subnet", a))
	case twice:
		return Invalidf(on, "give each client its own address", fmt.Errorf("reservations[%d] has %s already", j, a))
	case a == n.Router || a == n.Server:
		return Invalidf(on, "", fmt.Errorf("%s is the router's or the server's own address", a))
	}
	return nil
}
