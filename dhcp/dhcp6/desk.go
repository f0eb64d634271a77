package dhcp6

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/fleet"
)

// Leases returns the leases that hold an address now, in order of address,
// those after one, of one subnet or ("") of all.
func (s *Server) Leases(subnet string, after netip.Addr, limit int) []fleet.Lease6 {
	return s.book.page(subnet, after, limit)
}

// AddrsOf returns the addresses that a card holds now, of which each subnet has one.
func (s *Server) AddrsOf(mac fleet.MAC) (addrs []netip.Addr) {
	b := s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, l := range b.ledgers {
		p := l.byMachine[client{mac: mac}.machine()]
		if p != nil && p.lease.State == fleet.LeaseBound && now.Before(p.lease.Expires) {
			addrs = append(addrs, p.addr)
		}
	}
	return addrs
}

// Release ends a lease as if its client had released it. When it returns, that
// is on the disk.
func (s *Server) Release(ctx context.Context, addr netip.Addr) (fleet.Lease6, error) {
	lease, ok := s.book.leaseByAddr(addr)
	if ok {
		lease, ok = s.book.giveUp(clientOf(lease), addr, fleet.LeaseReleased)
	}
	if !ok {
		return lease, &fleet.Error{
			Kind: fleet.NotFound, Code: "E-LEASE-UNKNOWN", Op: "release", Err: fmt.Errorf("nobody has a lease of %s", addr),
			Hint: "see: provision leases list",
		}
	}
	return lease, s.keepNow(ctx, []fleet.Lease6{lease})
}

// keepNow stores leases that the book holds places for.
func (s *Server) keepNow(ctx context.Context, leases []fleet.Lease6) error {
	return commit.Now(ctx, leases, s.save, s.book.stored)
}
