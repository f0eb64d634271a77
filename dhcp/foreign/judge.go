package foreign

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// judge says of each server whether it belongs where it is; the caller holds
// mu.
func (t *table) judge() {
	first := map[string]*Server{} // full servers on subnets that we stand beside
	for _, s := range t.sorted() {
		sub := t.subnet(s.Subnet)
		s.Against, s.Expected = "", false
		switch {
		case s.Twin: // it never belongs anywhere
		case slices.Contains(sub.KnownDHCP, s.Addr) || s.DUID != "" && slices.Contains(sub.KnownDUIDs, s.DUID):
			s.Expected = true
		case s.Router:
			s.Against = conflict(s.Advert, s.network, t.link(s))
			s.Expected = s.Against == ""
		case !s.boots() && (s.Is6() && !s.Full || t.otherFamily(s)):
			s.Expected = true // it takes no machine from us
		case s.Full && !s.Is6() && first[sub.Name] == nil && standsBeside(sub):
			first[sub.Name] = s
			s.Expected = true
		}
	}
}

// standsBeside reports whether there is another server of IPv4 on a subnet by
// its mode, and site.yaml does not say which.
func standsBeside(n fleet.Subnet) bool {
	return n.Mode == fleet.Proxy && !slices.ContainsFunc(n.KnownDHCP, netip.Addr.Is4)
}

// otherFamily reports whether a server is of a family that is not declared
// where it is; the caller holds mu.
func (t *table) otherFamily(s *Server) bool {
	here := []fleet.Subnet{t.subnet(s.Subnet)}
	if s.Iface != "" {
		here = t.here(s.network)
	}
	return !slices.ContainsFunc(here, func(n fleet.Subnet) bool { return n.CIDR.Addr().Is6() == s.Is6() })
}

// link are the declared subnets that a router may speak of. Behind a relay it is
// not known which of them share its wire: then all of IPv6, where that one is
// served that the relay told of it. The caller holds mu.
func (t *table) link(s *Server) []fleet.Subnet {
	if s.Iface != "" {
		return t.here(s.network)
	}
	if sub := t.subnet(s.Subnet); !sub.Mode.GivesAddresses() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.subnets), func(n fleet.Subnet) bool { return !n.CIDR.Addr().Is6() })
}

// here are the declared subnets that an interface of ours is on; the caller
// holds mu.
func (t *table) here(n Network) (here []fleet.Subnet) {
	for _, sub := range t.subnets {
		if slices.ContainsFunc(n.Addrs, func(p netip.Prefix) bool { return sub.CIDR.Contains(p.Addr()) }) {
			here = append(here, sub)
		}
	}
	return here
}

// subnetOf says which declared subnet a server stands on: the one whose
// addresses it gives away, else the one that it has an address of, else the
// first of its family on the interface, else the first of all. The caller holds
// mu.
func (t *table) subnetOf(s *Server) string {
	here := t.here(s.network)
	for _, a := range []netip.Addr{s.Offers.Addr(), s.Addr} {
		for _, sub := range here {
			if sub.CIDR.Contains(a) {
				return sub.Name
			}
		}
	}
	for _, sub := range here {
		if sub.CIDR.Addr().Is6() == s.Is6() {
			return sub.Name
		}
	}
	if len(here) > 0 {
		return here[0].Name
	}
	return ""
}

func (t *table) subnet(name string) fleet.Subnet {
	i := slices.IndexFunc(t.subnets, func(n fleet.Subnet) bool { return n.Name == name })
	if i < 0 {
		return fleet.Subnet{}
	}
	return t.subnets[i]
}

// conflict says what of a router's advertisement is against what is declared
// for its link; "" for nothing.
//
// That a site's router advertises is usual. It is trouble only where we serve
// IPv6 addresses: there every advertisement has to say what ours do, as
// machines go by the one that they hear first. One without the M flag makes
// iPXE end without having asked for an address.
func conflict(a Advert, n Network, here []fleet.Subnet) string {
	var six []fleet.Subnet
	served, gate := false, false
	for _, sub := range here {
		if !sub.CIDR.Addr().Is6() {
			continue
		}
		six = append(six, sub)
		if sub.Mode.GivesAddresses() {
			served, gate = true, gate || n.owns(sub.Router)
		}
	}
	switch {
	case !served:
		return ""
	case !a.Managed:
		return "it does not tell machines to ask DHCPv6"
	case gate && a.Lifetime > 0:
		return "it wants to be the default router, which this server is to be"
	}
	for _, p := range a.Prefixes {
		if why := prefixConflict(p, six); why != "" {
			return why
		}
	}
	return ""
}

func prefixConflict(p Prefix, declared []fleet.Subnet) string {
	same := slices.IndexFunc(declared, func(n fleet.Subnet) bool { return n.CIDR == p.Prefix })
	if same >= 0 && p.Auto && !declared[same].SLAAC {
		return fmt.Sprintf("it lets machines make addresses of %s, where slaac is off", p.Prefix)
	}
	if same >= 0 {
		return ""
	}
	if p.Auto {
		return fmt.Sprintf("it lets machines make addresses of %s, which is not declared", p.Prefix)
	}
	for _, n := range declared {
		if n.CIDR.Overlaps(p.Prefix) {
			return fmt.Sprintf("it advertises %s, which overlaps %s", p.Prefix, n.CIDR)
		}
	}
	return ""
}
