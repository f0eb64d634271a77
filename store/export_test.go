package store

import (
	"context"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// Leases returns what EachLease amounts to, in order of address.
func (s *Store) Leases(ctx context.Context) ([]fleet.Lease, error) {
	set := newLeaseSet(0)
	if err := s.EachLease(ctx, func(l fleet.Lease) { r := recordOf(&l); set.put(&r) }); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(set.leases(), func(l fleet.Lease) bool { return l.State == "" }), nil
}

// leases are those of a set, as they come into the table.
func (ls *leaseSet) leases() (all []fleet.Lease) {
	for _, k := range ls.sort() {
		all = append(all, ls.lease(&k))
	}
	return all
}
