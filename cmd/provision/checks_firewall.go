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
	name string // "UDP 67"
	firewall.Packet
}

// answered is the name of the packets by which machines acknowledge blocks of
// TFTP, to a port of ours that nobody knows beforehand.
const answered = "TFTP's acknowledgements (UDP, high ports)"

// What we send from such ports, and in answer to DHCP.
const (
	blocks  = "TFTP's blocks (UDP, high ports)"
	answers = "answers to UDP 68"
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
	for _, iface := range st.conf.Listen.DHCP {
		found = append(found, judgeFirewall(iface, st.knocks(iface), rules.Drops)...)
	}
	if firewall.Legacy() {
		found = append(found, trouble(checkWarning, "", "look yourself: iptables-legacy-save", "this host has rules of the old iptables, which are not looked at"))
	}
	if len(found) == 0 {
		found = append(found, okay("the firewall of this host lets machines in"))
	}
	return found
}

// knocks are the packets of machines on an interface's own network.
func (st *station) knocks(iface string) (all []knock) {
	add := func(tcp bool, from netip.AddrPort, to netip.Addr, port uint16) {
		name := fmt.Sprintf("UDP %d", port)
		if tcp {
			name = fmt.Sprintf("TCP %d", port)
		}
		all = append(all, knock{name, firewall.Packet{Iface: iface, TCP: tcp, From: from, To: netip.AddrPortFrom(to, port)}})
	}
	if slices.ContainsFunc(st.engine.Site().Subnets, func(n fleet.Subnet) bool { return n.CIDR.Addr().Is6() && n.Mode != fleet.Observe }) {
		add(false, netip.MustParseAddrPort("[fe80::1]:546"), netip.MustParseAddr("ff02::1:2"), 547)
	}
	own, machine, ok := neighbours(iface)
	if !ok {
		return all
	}
	add(false, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddr("255.255.255.255"), 67)
	from := netip.AddrPortFrom(machine, 2070)
	for _, port := range []uint16{tftp.Port, 4011} {
		add(false, from, own, port)
	}
	for _, addr := range []string{st.conf.Listen.HTTP, st.conf.Listen.BootHTTPS, st.conf.Listen.HTTPS} {
		if addr != "" {
			add(true, from, own, portOf(addr))
		}
	}
	all = append(all, knock{answers, firewall.Packet{Iface: iface, Out: true, From: netip.AddrPortFrom(own, 67), To: netip.MustParseAddrPort("255.255.255.255:68")}})
	if !st.conf.TFTP.SinglePort {
		high := netip.AddrPortFrom(own, 40000)
		all = append(all, knock{blocks, firewall.Packet{Iface: iface, Out: true, From: high, To: from}},
			knock{answered, firewall.Packet{Iface: iface, From: from, To: high, Established: true}})
	}
	return all
}

// neighbours returns our IPv4 address on an interface, and one of its network
// that a machine could have.
func neighbours(iface string) (own, machine netip.Addr, ok bool) {
	ifc, err := net.InterfaceByName(iface)
	if err != nil {
		return own, machine, false
	}
	addrs, _ := ifc.Addrs() // it may have gone
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		machine := p.Addr().Next()
		if !p.Contains(machine) || !p.Contains(machine.Next()) { // that is for all
			machine = p.Addr().Prev()
		}
		return p.Addr(), machine, true
	}
	return own, machine, false
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
		if slices.Contains(by[where], answered) {
			fix += "; for TFTP accept ct state established, or set tftp.single_port: true"
		}
		found = append(found, trouble(checkFailed, "E-FIREWALL", fix, "the firewall of this host drops %s on %s: %s", names, iface, where))
	}
	return found
}
