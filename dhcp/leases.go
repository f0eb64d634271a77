package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/dhcp/takeover"
	"github.com/rackstage/provision/fleet"
)

// An Imported says what became of leases that another server gave.
type Imported = takeover.Report

// Leases returns the leases that hold an address now, and the addresses in
// quarantine, by address: at most limit of those of a subnet ("" for all) that
// come after an address (invalid for the first ones).
func (s *Server) Leases(subnet string, after netip.Addr, limit int) []fleet.Lease {
	return s.book.page(subnet, after, limit)
}

// AddrsOf returns the addresses that a client holds now, the newest first.
func (s *Server) AddrsOf(mac fleet.MAC) (addrs []netip.Addr) {
	for _, l := range s.book.leasesByMAC(mac) {
		addrs = append(addrs, l.Addr)
	}
	return addrs
}

// Release ends the lease of an address, as an operator wants it. The machine
// that has the address is not asked: it loses it when it renews.
func (s *Server) Release(ctx context.Context, addr netip.Addr) (fleet.Lease, error) {
	lease, held := s.book.leaseByAddr(addr)
	if held {
		lease, held = s.book.giveUp(hwOf(lease.MAC), addr, fleet.LeaseReleased)
	}
	if !held {
		return lease, &fleet.Error{
			Kind: fleet.NotFound, Code: "E-LEASE-UNKNOWN", Op: "release", Err: fmt.Errorf("nobody has a lease of %s", addr),
			Hint: "see: provision leases list",
		}
	}
	return lease, s.keep(ctx, []fleet.Lease{lease})
}

// keep stores leases that the book holds places for. Whatever happens, the
// book knows afterwards.
func (s *Server) keep(ctx context.Context, leases []fleet.Lease) error {
	return commit.Now(ctx, leases, s.save, s.book.stored)
}

// Import takes over leases that another server gave, on a subnet or ("") on
// whichever their addresses are in. What is counted as taken is on disk. With
// dryRun it only says what would happen.
func (s *Server) Import(ctx context.Context, leases []fleet.Lease, subnet string, dryRun bool) (Imported, error) {
	now := s.o.Now()
	return takeover.Options[fleet.Lease]{
		Ready: s.ready,
		Addr:  func(l *fleet.Lease) netip.Addr { return l.Addr },
		Who:   func(l *fleet.Lease) (key, name string) { return l.Subnet + " " + string(l.MAC), string(l.MAC) },
		Check: func(l *fleet.Lease) (why string) {
			l.State = fleet.LeaseBound
			l.Subnet, why = s.mayImport(*l, subnet, now)
			return why
		},
		Claim: func(l *fleet.Lease, hold bool) string { return s.claimImport(*l, hold) },
		Keep:  s.keep,
	}.Import(ctx, leases, dryRun)
}

// mayImport says which subnet a lease is of, or why it can be none of ours.
func (s *Server) mayImport(l fleet.Lease, subnet string, now time.Time) (name, why string) {
	n := s.nets.Load().of(l.Addr)
	switch {
	case !l.Addr.Is4():
		return "", "not an IPv4 address"
	case l.MAC.Hardware() == nil:
		return "", "without the address of an Ethernet card"
	case !l.Expires.After(now):
		return "", "expired"
	case n == nil:
		return "", "outside of every declared subnet"
	case subnet != "" && n.Name != subnet:
		return "", "on subnet " + n.Name
	case l.Addr == n.CIDR.Addr() || l.Addr == broadcastOf(n.CIDR):
		return "", "not an address of a machine"
	case l.Addr == n.Router || l.Addr == n.Server || s.links.Own(l.Addr):
		return "", "the address of the router, or of this server"
	}
	return n.Name, ""
}

// claimImport holds the place of a lease, unless somebody has it.
func (s *Server) claimImport(l fleet.Lease, hold bool) (why string) {
	if old, held := s.book.leaseByAddr(l.Addr); held {
		if old.MAC == l.MAC && !old.Expires.Before(l.Expires) {
			return takeover.Known
		}
		if old.MAC != l.MAC {
			return "held by " + string(old.MAC)
		}
	}
	for _, old := range s.book.leasesByMAC(l.MAC) {
		if old.Subnet == l.Subnet && old.Addr != l.Addr {
			return fmt.Sprintf("%s has %s", l.MAC, old.Addr)
		}
	}
	if !hold {
		return ""
	}
	n, _ := s.o.Nodes.NodeByMAC(l.MAC)
	if _, ok := s.book.take(&client{mac: hwOf(l.MAC), known: n.WasApproved()}, l); !ok {
		return "about to be given to another machine"
	}
	return ""
}
