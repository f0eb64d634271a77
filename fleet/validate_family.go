package fleet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Parameters of a boot file go in one packet, with all else.
const (
	maxBootParams     = 16
	maxBootParamBytes = 512
)

// A complaint notes what is wrong with a key, and what to write instead.
type complaint func(key, hint, format string, args ...any)

// validateFamily checks that what is said about a subnet is said in the
// addresses of its own family, and that nothing is asked of IPv6 that only
// DHCPv4 has.
func (n Subnet) validateFamily(on string) error {
	var errs []error
	bad := func(key, hint, format string, args ...any) {
		errs = append(errs, Invalidf(on+"."+key, hint, fmt.Errorf(format, args...)))
	}
	n.checkServers(bad)
	if n.CIDR.Addr().Is4() {
		n.checkNothingOf6(bad)
		return errors.Join(errs...)
	}
	n.checkNetwork6(bad)
	n.checkBootParams(bad)
	n.checkLink6(bad)
	n.checkNothingOf4(bad)
	return errors.Join(errs...)
}

func (n Subnet) checkServers(bad complaint) {
	for key, list := range map[string][]netip.Addr{"router": {n.Router}, "server": {n.Server}, "dns": n.DNS, "ntp": n.NTP} {
		for _, a := range list {
			if a.IsValid() && a.BitLen() != n.CIDR.Addr().BitLen() {
				bad(key, "declare a second subnet for the other family; both may be on one wire", "%s is not of the family of %s", a, n.CIDR)
			}
		}
	}
}

func (n Subnet) checkNothingOf6(bad complaint) {
	if n.SLAAC {
		bad("slaac", "leave it out", "%s is IPv4, which has no addresses of the machines' own making", n.CIDR)
	}
	if len(n.BootParams) > 0 {
		bad("boot_params", "use options: or a class with a boot_file", "%s is IPv4, where no option carries parameters", n.CIDR)
	}
}

func (n Subnet) checkNetwork6(bad complaint) {
	if n.Mode == Proxy {
		bad("mode", "use observe, reserved or full", "IPv6 has no ProxyDHCP: the server of addresses is the one that names the boot file")
	}
	if n.CIDR.Addr().IsLinkLocalUnicast() || n.CIDR.Addr().IsMulticast() {
		bad("cidr", "write a network such as fd77::/64", "%s is not a network of machines' addresses", n.CIDR)
	}
	if n.SLAAC && n.CIDR.Bits() != 64 {
		bad("slaac", "use a /64", "machines make addresses of their own in a /64 only (RFC 4862)")
	}
}

func (n Subnet) checkBootParams(bad complaint) {
	if len(n.BootParams) > maxBootParams {
		bad("boot_params", "", "%d parameters; at most %d are sent", len(n.BootParams), maxBootParams)
	}
	if size := len(strings.Join(n.BootParams, "")); size > maxBootParamBytes {
		bad("boot_params", "", "%d bytes; at most %d are sent", size, maxBootParamBytes)
	}
	for i, a := range n.BootParams {
		if a == "" || len(a) > 255 || a != CleanText(a) {
			bad(fmt.Sprintf("boot_params[%d]", i), "write 1 to 255 printable characters", "%q is no parameter of a boot file", a)
		}
	}
}

func (n Subnet) checkLink6(bad complaint) {
	if n.MTU != 0 && n.MTU < 1280 {
		bad("mtu", "write 1280 or more", "MTU %d: IPv6 needs 1280", n.MTU)
	}
	for _, r := range n.Relays {
		if !r.Is6() || r.IsUnspecified() || r.IsMulticast() || r.IsLinkLocalUnicast() {
			bad("relays", "write the address that the relay sends from", "%s is not the address of a relay", r)
		}
	}
}

func (n Subnet) checkNothingOf4(bad complaint) {
	for key, set := range map[string]bool{
		"routes": len(n.Routes) > 0 || n.MSRoutes, "options": len(n.Options) > 0,
		"classes": len(n.Classes) > 0, "bootp": n.BOOTP,
	} {
		if set {
			bad(key, "leave it out", "an IPv6 subnet has no %s", key)
		}
	}
	for i, r := range n.Reservations {
		if r.MAC == "" || len(r.Options) > 0 {
			bad(fmt.Sprintf("reservations[%d]", i), "name the client by mac, with address and nothing else", "a reservation that only DHCPv4 has")
		}
	}
}
