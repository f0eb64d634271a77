package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses inside every rack.
const (
	Bridge    = "rack0" // the machines' cards are ports of this bridge
	bmcDevice = "bmc0"
)

var (
	// ServerAddress is where the server under test listens; it has the bridge.
	ServerAddress = netip.MustParsePrefix("10.77.0.1/24")
	// ServerAddress6 is the only address of the bridge in a rack that is
	// [Options.IPv6].
	ServerAddress6 = netip.MustParsePrefix("fd77::1/64")
	serverBMCNet   = netip.MustParsePrefix("10.77.1.1/24")
	bmcNet         = serverBMCNet.Masked()
)

// build makes the links of the rack inside its namespace.
func (ns namespace) build(o Options) error {
	server := ServerAddress
	if o.IPv6 {
		server = ServerAddress6
	}
	return ns.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find loopback: %w", err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("start loopback: %w", err)
		}
		bridge := &netlink.Bridge{LinkAttrs: named(Bridge)}
		if err := addLink(bridge, server); err != nil {
			return err
		}
		far := &netlink.Bridge{LinkAttrs: named(farBridge)}
		if hasRemote(o.Machines) {
			if err := addLink(far); err != nil {
				return err
			}
		}
		bmcs := []netip.Prefix{serverBMCNet}
		for i, m := range o.Machines {
			on := bridge
			if m.Remote {
				on = far
			}
			if err := addTap(on, tapName(i)); err != nil {
				return err
			}
			bmcs = append(bmcs, netip.PrefixFrom(m.BMC.Address, 32))
		}
		// A bridge without ports: some kernels lack the dummy device.
		return addLink(&netlink.Bridge{LinkAttrs: named(bmcDevice)}, bmcs...)
	})
}

func tapName(i int) string { return fmt.Sprintf("tap%d", i) }

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func addLink(l netlink.Link, addrs ...netip.Prefix) error {
	name := l.Attrs().Name
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("add link %s: %w", name, err)
	}
	for _, a := range addrs {
		ip := &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}
		// A bridge without a port in use cannot look for others with its address.
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ip, Flags: noDAD(a.Addr())}); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, name, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("start link %s: %w", name, err)
	}
	return nil
}

func addTap(bridge netlink.Link, name string) error {
	tap := &netlink.Tuntap{LinkAttrs: named(name), Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if err := addLink(tap); err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(tap, bridge); err != nil {
		return fmt.Errorf("put %s on %s: %w", name, bridge.Attrs().Name, err)
	}
	return nil
}

func noDAD(a netip.Addr) int {
	if a.Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}
