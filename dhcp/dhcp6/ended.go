package dhcp6

import (
	"context"
	"errors"
	"time"

	"github.com/rackstage/provision/fleet"
)

// As on IPv4, the disk takes no address away from a client by itself: it must
// know of the end of a lease before it hears of the next one of that address.

// save stores leases, and before them in the same transaction the ends of those
// whose place they take. Nobody else saves meanwhile. Where the disk has a
// holder that the book does not know of, it is right.
func (s *Server) save(ctx context.Context, leases []fleet.Lease6) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	if ends := s.book.ends(leases); len(ends) > 0 {
		leases = append(ends, leases...)
	}
	err := s.o.Leases.SaveLeases6(ctx, leases)
	if held, ok := errors.AsType[*fleet.HeldError](err); ok {
		s.book.correct(held.Stands, !s.isKnown(held.Stands.MAC))
		s.alarms.Raise(fleet.CodeLeaseTwice, held.Stands.Addr.String(), held.Error())
	}
	return err
}

// ends returns the leases that others take the place of: of the client that had
// the address before, such as the firmware of a machine whose system asks now,
// and of the address that a client had under the name that the subnet had
// before. By names the disk could not tell that both are one client's, and a
// restart would believe the one with the higher address.
func (b *book) ends(leases []fleet.Lease6) (ends []fleet.Lease6) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range leases {
		lease := &leases[i]
		l := b.ledgerOf(lease.Addr)
		if l == nil || lease.State != fleet.LeaseBound {
			continue
		}
		key, now := clientOf(*lease).key(), b.now()
		if p := l.byAddr[lease.Addr]; p != nil && p.lease.State == fleet.LeaseBound && clientOf(p.lease).key() != key {
			ends = append(ends, ended(p.lease, now))
		}
		old := l.byIA[key]
		if old == nil || old.addr == lease.Addr || old.storing > 0 || old.lease.State != fleet.LeaseBound { // or on its way to the disk as another's
			continue
		}
		if clientOf(old.lease).key() == key && old.lease.Subnet != lease.Subnet {
			ends = append(ends, ended(old.lease, now))
		}
	}
	return ends
}

func ended(l fleet.Lease6, now time.Time) fleet.Lease6 {
	l.State, l.Expires = fleet.LeaseReleased, now
	return l
}

// correct enters a lease that the disk has in the place of what we thought:
// whoever was to have the address is offered it no more.
func (b *book) correct(lease fleet.Lease6, unknown bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ledgerOf(lease.Addr); l != nil && l.byAddr[lease.Addr] != nil {
		p := l.byAddr[lease.Addr]
		l.unlink(p)
		p.held = client{}
	}
	b.enter(lease, unknown)
}

// has reports whether the client of a lease has it still.
func (b *book) has(lease fleet.Lease6) bool {
	now, ok := b.leaseByAddr(lease.Addr)
	return ok && clientOf(now).key() == clientOf(lease).key()
}
