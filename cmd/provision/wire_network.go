package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/dhcp/takeover"
	"github.com/rackstage/provision/fleet"
)

// network is httpd.Network over the DHCP servers of both families.
type network struct {
	dhcp  *dhcp.Server
	dhcp6 *dhcp6.Server
}

func (st *station) network() network { return network{st.dhcp, st.dhcp6} }

// Foreign implements httpd.Network.
func (n network) Foreign() []api.ForeignServer {
	var list []api.ForeignServer
	for _, f := range n.dhcp.ForeignServers() {
		out := api.ForeignServer{
			Addr: f.Name(), DUID: f.DUID, MAC: string(f.MAC), Router: f.Router, Interface: f.Iface, Subnet: f.Subnet, Full: f.Full, Proxy: f.Proxy,
			BootFile: f.File, Expected: f.Expected, Words: f.Words(), Against: f.Against, First: f.First, Last: f.Last,
		}
		if f.Relay.IsValid() {
			out.Relay = f.Relay.String()
		}
		if f.Offers.IsValid() {
			out.Offers = f.Offers.String()
		}
		list = append(list, out)
	}
	return list
}

// Uses implements httpd.Network.
func (n network) Uses() map[string][]api.RangeUse {
	uses := map[string][]api.RangeUse{}
	for _, u := range slices.Concat(n.dhcp.Subnets(), n.dhcp6.Subnets()) {
		out := api.RangeUse{Class: u.Class, Size: u.Size, Used: u.Used, Declined: u.Declined, Percent: u.Percent()}
		if u.FullForecast {
			out.FullIn = max(1, int(u.FullIn/time.Second))
		}
		uses[u.Subnet] = append(uses[u.Subnet], out)
	}
	return uses
}

// InterfaceOf implements httpd.Network.
func (n network) InterfaceOf(s fleet.Subnet) string {
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, ifc := range all {
		addrs, _ := ifc.Addrs() // it may have gone
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && s.CIDR.Contains(p.Addr()) {
				return ifc.Name
			}
		}
	}
	return ""
}

// List implements httpd.Network. IPv6 comes after IPv4.
func (n network) List(subnet string, after netip.Addr, limit int) []fleet.Lease {
	var list []fleet.Lease
	if !after.Is6() {
		list = n.dhcp.Leases(subnet, after, limit)
		after = netip.Addr{}
	}
	for _, l := range n.dhcp6.Leases(subnet, after, limit-len(list)) {
		list = append(list, plainLease(l))
	}
	return list
}

// Release implements httpd.Network.
func (n network) Release(ctx context.Context, addr netip.Addr) (fleet.Lease, error) {
	if addr.Is6() {
		l, err := n.dhcp6.Release(ctx, addr)
		return plainLease(l), err
	}
	return n.dhcp.Release(ctx, addr)
}

// Import implements httpd.Network.
func (n network) Import(ctx context.Context, four []fleet.Lease, six []fleet.Lease6, subnet string, dryRun bool) (api.ImportedLeases, error) {
	done, err := n.dhcp.Import(ctx, four, subnet, dryRun)
	if err == nil && len(six) > 0 {
		var more takeover.Report
		more, err = n.dhcp6.Import(ctx, six, subnet, dryRun)
		done.Add(more)
	}
	out := api.ImportedLeases{Taken: done.Taken, Known: done.Known}
	for _, r := range done.Refused {
		out.Refused = append(out.Refused, api.RefusedLease{Addr: r.Addr.String(), Reason: r.Reason})
	}
	return out, err
}
