package ramdisk

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/retry"
)

// routePatience is for a router to say what is on the link.
const routePatience = 10 * time.Second

// hurry spares a card the second or two in which the kernel looks whether
// somebody else has its link-local address. That is made of the MAC address,
// by which the server knows the machine.
func hurry(i net.Interface) {
	for key, value := range map[string]string{"accept_dad": "0", "addr_gen_mode": "0", "accept_ra": "1"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+i.Name+"/"+key, []byte(value), 0o644) // it works without, later
	}
}

// ownAddress returns an address that the kernel made out of a router's prefix
// (RFC 4862).
func ownAddress(iface *net.Interface) (netip.Prefix, bool) {
	link, err := netlink.LinkByIndex(iface.Index)
	if err != nil {
		return netip.Prefix{}, false
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return netip.Prefix{}, false
	}
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		unfit := a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_PERMANENT) != 0
		if !ok || unfit || !addr.IsGlobalUnicast() {
			continue
		}
		bits, _ := a.Mask.Size()
		return netip.PrefixFrom(addr, bits), true
	}
	return netip.Prefix{}, false
}

// netlinkAddr is the address as the kernel takes it. An IPv6 one is ours for
// sure: the server has asked its ledger, so that the kernel need not ask
// around.
func (l Lease) netlinkAddr() *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: l.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(l.Prefix.Bits(), l.Prefix.Addr().BitLen())}}
	if l.Prefix.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// awaitRoute waits until there is a way to the server. DHCPv6 says nothing
// about the network: what is on the link, and who is its router, is in the
// advertisements that the kernel hears.
func (n Network) awaitRoute(ctx context.Context) error {
	if !n.Server.Is6() {
		return nil
	}
	began := time.Now()
	for {
		_, err := netlink.RouteGet(n.Server.AsSlice())
		if err == nil {
			return nil
		}
		if time.Since(began) > routePatience {
			n.Log.Warn("no way to the server: no router advertises its network on this link", "server", n.Server, "err", err)
			return nil
		}
		if err := retry.Pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("wait for a route to %s: %w", n.Server, err)
		}
	}
}
