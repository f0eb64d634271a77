package store

import (
	"context"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// Leases returns what EachLease amounts to, in order of address.
func (s *Store) Leases(ctx context.Context) ([]fleet.Lease, error) {
	set := newLeaseSet()
	if err := s.EachLease(ctx, set.put); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(set.sorted(), func(l fleet.Lease) bool { return l.State == "" }), nil
}
