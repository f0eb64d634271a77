package dhcp6

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// save stores leases, and before them in the same transaction the ends of those
// that their clients leave for them under the name that the subnet had before:
// by names the disk could not tell that both are one client's, of which a
// restart would believe the one with the higher address. Nobody else saves
// meanwhile.
func (s *Server) save(ctx context.Context, leases []fleet.Lease6) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	if ends := s.book.ends(leases); len(ends) > 0 {
		leases = append(ends, leases...)
	}
	return s.o.Leases.SaveLeases6(ctx, leases)
}

// ends returns the leases that others take the place of, and the disk does not
// see it. What is on its way to the disk is another's already.
func (b *book) ends(leases []fleet.Lease6) (ends []fleet.Lease6) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range leases {
		lease := &leases[i]
		l := b.ledgerOf(lease.Addr)
		if l == nil || lease.State != fleet.LeaseBound {
			continue
		}
		key := clientOf(*lease).key()
		old := l.byIA[key]
		if old == nil || old.addr == lease.Addr || old.storing > 0 || old.lease.State != fleet.LeaseBound {
			continue
		}
		if former := old.lease; clientOf(former).key() == key && former.Subnet != lease.Subnet {
			former.State, former.Expires = fleet.LeaseReleased, b.now()
			ends = append(ends, former)
		}
	}
	return ends
}
