package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/rackstage/provision/dhcp"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/fleet"
)

// wireDHCP makes the servers of addresses, of both families.
func (st *station) wireDHCP() (err error) {
	if len(st.conf.Listen.DHCP) == 0 {
		return nil
	}
	st.dhcp, err = dhcp.New(dhcp.Options{
		Interfaces: st.conf.Listen.DHCP, HTTPPort: portOf(st.conf.Listen.HTTP), HTTPSPort: portOf(st.conf.Listen.BootHTTPS),
		DUID:  dhcp6.DUID(st.serverID()),
		Nodes: st.engine, Leases: st.store, Observer: st.lessons, Alarms: st.engine, Log: st.log, Quirk: st.lessons.Quirk,
	})
	if err != nil {
		return err
	}
	st.dhcp6, err = dhcp6.New(dhcp6.Options{
		Interfaces: st.conf.Listen.DHCP, HTTPPort: portOf(st.conf.Listen.HTTP), HTTPSPort: portOf(st.conf.Listen.BootHTTPS),
		ServerID: st.serverID(),
		Nodes:    st.engine, Leases: st.store, Observer: st.lessons, Alarms: st.engine, Others: st.dhcp, Log: st.log, Quirk: st.lessons.Quirk,
	})
	return err
}

// serverID is who we are to DHCPv6 clients: the same for as long as our keys
// are, whatever our cards and addresses.
func (st *station) serverID() [16]byte {
	sum := sha256.Sum256([]byte("dhcp6 " + st.authority.Fingerprint()))
	return [16]byte(sum[:])
}

// followSubnets hands the declared subnets, and the options of pools, to the
// servers of addresses, now and whenever they change.
func (st *station) followSubnets(ctx context.Context) error {
	var served []fleet.Subnet
	var pools []fleet.Pool
	for {
		changed, moved := st.engine.Changed(), st.relays.Changed()
		if now := st.withRelays(st.engine.Site().Subnets); !reflect.DeepEqual(now, served) {
			st.dhcp.SetSubnets(now)
			st.dhcp6.SetSubnets(now)
			served = now
		}
		if now := st.engine.Site().Pools; !reflect.DeepEqual(now, pools) {
			st.dhcp.SetPools(now)
			pools = now
		}
		select {
		case <-changed:
		case <-moved:
		case <-ctx.Done():
			return nil
		}
	}
}

// withRelays names the relay of a subnet as the place to fetch boot files
// from, by plain HTTP, where site.yaml names none, and all of them as those
// that DHCP may believe.
func (st *station) withRelays(subnets []fleet.Subnet) []fleet.Subnet {
	out := slices.Clone(subnets)
	for i := range out {
		out[i].Edges = st.relays.AddrsOn(out[i].Name)
		if st.atRelay(out[i]) {
			out[i].Server, out[i].BootHTTPS = st.relays.AddrOn(out[i].Name), false // a relay has no HTTPS for firmware
		}
	}
	return out
}

// leases tells which machine has an address, of either family.
func (st *station) leases() leases { return leases{st.dhcp, st.dhcp6} }

type leases struct {
	v4 *dhcp.Server
	v6 *dhcp6.Server
}

// LeaseByAddr implements httpd.Leases.
func (l leases) LeaseByAddr(addr netip.Addr) (fleet.Lease, bool) {
	if addr = addr.Unmap(); addr.Is4() {
		return l.v4.LeaseByAddr(addr)
	}
	six, ok := l.v6.LeaseByAddr(addr)
	return plainLease(six), ok
}

// TenantAt implements httpd.Leases.
func (l leases) TenantAt(addr netip.Addr) (fleet.MAC, bool) {
	if addr = addr.Unmap(); addr.Is4() {
		return l.v4.TenantAt(addr)
	}
	return "", false
}

// machineAt tells whose evidence it is what somebody at an address does.
func (l leases) machineAt(addr netip.Addr) (fleet.MAC, bool) {
	if lease, ok := l.LeaseByAddr(addr); ok {
		return lease.MAC, true
	}
	return l.TenantAt(addr)
}

// AddrsOf implements httpd.Held.
func (l leases) AddrsOf(macs ...fleet.MAC) (addrs []netip.Addr) {
	for _, mac := range macs {
		addrs = append(append(addrs, l.v4.AddrsOf(mac)...), l.v6.AddrsOf(mac)...)
	}
	return addrs
}

// Gave reports whether a machine has an address of ours, or had it last.
func (l leases) Gave(addr netip.Addr) bool {
	if addr.Is4() {
		return l.v4.Gave(addr)
	}
	return l.v6.Gave(addr)
}

// plainLease is an IPv6 lease as those who do not care see it.
func plainLease(l fleet.Lease6) fleet.Lease {
	return fleet.Lease{Addr: l.Addr, Subnet: l.Subnet, MAC: l.MAC, ClientID: l.DUID, State: l.State, Expires: l.Expires}
}

// addrsOf returns the addresses of an interface that machines can reach from
// elsewhere than its own link.
func addrsOf(name string) ([]netip.Addr, error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fleet.Invalidf("listen.dhcp", "see: ip address", fmt.Errorf("interface %q: %w", name, err))
	}
	list, err := ifc.Addrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && (p.Addr().Is4() || !p.Addr().IsLinkLocalUnicast()) {
			out = append(out, p.Addr())
		}
	}
	if len(out) == 0 {
		return nil, fleet.Invalidf("listen.dhcp", "give it one: ip address add ADDRESS/BITS dev "+name, fmt.Errorf("interface %s has no address", name))
	}
	return out, nil
}
