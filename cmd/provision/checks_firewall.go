package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/firewall"
	"github.com/rackstage/provision/pxe/tftp"
)

// A knock is a packet that machines and we exchange when they boot.
type knock struct {
	name string // "UDP 67", "TCP 80 of IPv6"
	firewall.Packet
}

// families of IP, as the doctor calls them.
const (
	family4 = "IPv4"
	family6 = "IPv6"
	ofIPv6  = " of " + family6
)

// answered is the name of the packets by which machines acknowledge blocks of
// TFTP, to a port of ours that nobody knows beforehand.
const answered = "TFTP's acknowledgements (UDP, high ports)"

// What we send from such ports, and in answer to DHCP.
const (
	blocks  = "TFTP's blocks (UDP, high ports)"
	answers = "answers to UDP 68"
	replies = "answers to UDP 546"
)

// checkFirewall follows what machines send, and what we answer, through the
// rules of this host.
func checkFirewall(_ context.Context, st *station) []api.Check {
	if st.dhcp == nil {
		return nil
	}
	rules, err := firewall.Read()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []api.Check{trouble(checkWarning, "", "give the server CAP_NET_ADMIN, or look yourself: nft list ruleset", "the firewall of this host cannot be read")}
	case errors.Is(err, fs.ErrNotExist): // the kernel has none
		return nil
	case err != nil:
		return []api.Check{trouble(checkWarning, "", "look yourself: nft list ruleset", "the firewall of this host cannot be read: %v", err)}
	}
	var found []api.Check
	var tried []string
	for _, iface := range st.conf.Listen.DHCP {
		all, families := st.knocks(iface)
		found = append(found, judgeFirewall(iface, all, rules.Drops)...)
		if len(families) > 0 {
			tried = append(tried, fmt.Sprintf("%s (%s)", iface, strings.Join(families, ", ")))
		}
	}
	if firewall.Legacy() {
		found = append(found, trouble(checkWarning, "", "look yourself: iptables-legacy-save", "this host has rules of the old iptables, which are not looked at"))
	}
	if len(found) == 0 && len(tried) > 0 {
		found = append(found, okay("the firewall of this host lets machines in on %s", strings.Join(tried, ", ")))
	}
	return found
}

// knocks are the packets of machines on an interface's own network, and of
// which families they are: of IPv6 where that is declared at all.
func (st *station) knocks(iface string) (all []knock, families []string) {
	if own, machine, ok := neighbours(iface, netip.Addr.Is4); ok {
		families = append(families, family4)
		all = append(all, inUDP(iface, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddr("255.255.255.255"), 67))
		all = append(all, knock{answers, firewall.Packet{Iface: iface, Out: true, From: netip.AddrPortFrom(own, 67), To: netip.MustParseAddrPort("255.255.255.255:68")}})
		all = append(all, st.visits(iface, own, machine, tftp.Port, 4011)...)
	}
	if !slices.ContainsFunc(st.engine.Site().Subnets, func(n fleet.Subnet) bool { return n.CIDR.Addr().Is6() && n.Mode != fleet.Observe }) {
		return all, families
	}
	six := []knock{inUDP(iface, linkLocalClient, netip.MustParseAddr("ff02::1:2"), 547)}
	if own, machine, ok := neighbours(iface, netip.Addr.Is6); ok {
		families = append(families, family6)
		six = append(six, knock{replies, firewall.Packet{Iface: iface, Out: true, From: netip.MustParseAddrPort("[fe80::2]:547"), To: linkLocalClient}})
		six = append(six, st.visits(iface, own, machine, tftp.Port)...)
	}
	for _, k := range six {
		k.name += ofIPv6
		all = append(all, k)
	}
	return all, families
}

// linkLocalClient is a machine that asks for its first address of IPv6.
var linkLocalClient = netip.MustParseAddrPort("[fe80::1]:546")

func inUDP(iface string, from netip.AddrPort, to netip.Addr, port uint16) knock {
	return knock{fmt.Sprintf("UDP %d", port), firewall.Packet{Iface: iface, From: from, To: netip.AddrPortFrom(to, port)}}
}

// visits are the packets of a machine that has an address, to these ports and
// those of our listeners.
func (st *station) visits(iface string, own, machine netip.Addr, ports ...uint16) (all []knock) {
	from := netip.AddrPortFrom(machine, 2070)
	for _, port := range ports {
		all = append(all, inUDP(iface, from, own, port))
	}
	for _, addr := range []string{st.conf.Listen.HTTP, st.conf.Listen.BootHTTPS, st.conf.Listen.HTTPS} {
		if addr != "" && listensTo(addr, own) {
			port := portOf(addr)
			all = append(all, knock{fmt.Sprintf("TCP %d", port), firewall.Packet{Iface: iface, TCP: true, From: from, To: netip.AddrPortFrom(own, port)}})
		}
	}
	if !st.conf.TFTP.SinglePort {
		high := netip.AddrPortFrom(own, 40000)
		all = append(all, knock{blocks, firewall.Packet{Iface: iface, Out: true, From: high, To: from}},
			knock{answered, firewall.Packet{Iface: iface, From: from, To: high, Established: true}})
	}
	return all
}

// listensTo reports whether a listener hears the family of an address.
func listensTo(listen string, own netip.Addr) bool {
	at, err := netip.ParseAddrPort(listen)
	return err != nil || at.Addr() == netip.IPv6Unspecified() || at.Addr().Is4() == own.Is4()
}

// neighbours returns an address of ours of one family on an interface, and one
// of its network that a machine could have.
func neighbours(iface string, family func(netip.Addr) bool) (own, machine netip.Addr, ok bool) {
	ifc, err := net.InterfaceByName(iface)
	if err != nil {
		return own, machine, false
	}
	addrs, _ := ifc.Addrs() // it may have gone
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !family(p.Addr()) || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && ok {
			continue
		}
		machine = p.Addr().Next()
		if !p.Contains(machine) || p.Addr().Is4() && !p.Contains(machine.Next()) { // that is for all
			machine = p.Addr().Prev()
		}
		own, ok = p.Addr(), true
		if !own.IsLinkLocalUnicast() {
			break // from there come loaders and files; who has none asks by link-local addresses
		}
	}
	return own, machine, ok
}

// judgeFirewall says which packets are dropped, by the chain that does it.
func judgeFirewall(iface string, all []knock, drops func(firewall.Packet) (string, bool)) (found []api.Check) {
	by := map[string][]string{}
	var chains []string
	for _, k := range all {
		where, dropped := drops(k.Packet)
		if !dropped {
			continue
		}
		if by[where] == nil {
			chains = append(chains, where)
		}
		if !slices.Contains(by[where], k.name) {
			by[where] = append(by[where], k.name)
		}
	}
	for _, where := range chains {
		names := strings.Join(by[where], ", ")
		fix := fmt.Sprintf("accept %s on %s before that (nft insert rule, ufw allow, or firewall-cmd --add-port)", names, iface)
		if slices.ContainsFunc(by[where], func(name string) bool { return strings.HasPrefix(name, answered) }) {
			fix += "; for TFTP accept ct state established, or set tftp.single_port: true"
		}
		found = append(found, trouble(checkFailed, "E-FIREWALL", fix, "the firewall of this host drops %s on %s: %s", names, iface, where))
	}
	return found
}
