package dhcp

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// The disk must know of the end of a lease before it hears of the next one of
// that address: it takes no client's address away by itself, by the clock or by
// the name that a subnet has today. A lease ends without a word when its client
// gets another address, and when its time is over; the release that is missing
// is stored with the lease that gives the reason.

// save stores leases, and before them in the same batch the ends of those whose
// place they take. Nobody else saves meanwhile: what is on the disk is what the
// book says.
func (s *Server) save(ctx context.Context, leases []fleet.Lease) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	ends := s.book.ends(leases)
	if len(ends) == 0 {
		return s.o.Leases.SaveLeases(ctx, leases)
	}
	if err := s.o.Leases.SaveLeases(ctx, append(ends, leases...)); err != nil {
		return err
	}
	s.book.ended(ends)
	return nil
}

// ends returns releases of what the disk has where leases are to be stored: of
// the former client of each address, and of the former address of each client.
func (b *book) ends(leases []fleet.Lease) (ends []fleet.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range leases {
		if l := b.ledgerOf(leases[i].Addr); l != nil && leases[i].State == fleet.LeaseBound {
			ends = l.ends(ends, number(leases[i].Addr), hwOf(leases[i].MAC))
		}
	}
	return ends
}

func (l *ledger) ends(ends []fleet.Lease, ip uint32, mac hwaddr) []fleet.Lease {
	p := l.byAddr.at(ip)
	if p != nil {
		if p.lease.state == leaseBound && p.lease.mac == mac {
			return ends // renewed
		}
		if former := l.onDisk(p); former != (hwaddr{}) && former != mac {
			ends = append(ends, l.end(p, former))
		}
	}
	if old := l.heldBy(mac); old != nil && old != p && old.lease.state == leaseBound {
		ends = append(ends, l.end(old, mac))
	}
	return ends
}

// onDisk returns whose lease of a place the disk has; zero when it has none
// that is bound.
func (l *ledger) onDisk(p *place) hwaddr {
	if p.lease.state == leaseBound {
		return p.lease.mac
	}
	return l.silent[p.ip]
}

func (l *ledger) end(p *place, mac hwaddr) fleet.Lease {
	return fleet.Lease{Addr: p.addr(), Subnet: l.net.Name, MAC: macOf(mac), State: fleet.LeaseReleased, Expires: l.clock.wall()}
}

// ended enters releases that are on disk now.
func (b *book) ended(ends []fleet.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range ends {
		if l := b.ledgerOf(ends[i].Addr); l != nil {
			delete(b.silent, number(ends[i].Addr))
			l.put(&ends[i], false)
		}
	}
}
