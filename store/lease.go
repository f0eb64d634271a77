package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// SaveLeases stores leases; when it returns nil they are all on the disk. A
// lease takes the place of the one that its address had, and a bound one of the
// one that its client had on the same subnet. Of up to 4096 leases, all are
// stored or none.
func (s *Store) SaveLeases(ctx context.Context, leases []fleet.Lease) error {
	for i := range leases {
		if err := checkLease(&leases[i]); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(leases, maxBatch) {
		if err := s.leases.append(ctx, some); err != nil {
			return s.fault("save leases", err)
		}
	}
	return nil
}

// EachLease calls do for the leases, in the order in which they were stored as
// far as that matters: one that comes later takes the place of an earlier one of
// its address, or of its client on the subnet.
func (s *Store) EachLease(_ context.Context, do func(fleet.Lease)) error {
	journals := s.leases.hold()
	defer s.leases.release()
	names := make(map[string]string)
	each := func(r *record) { do(r.lease(names)) }
	if err := s.eachRow(each); err != nil {
		return err
	}
	for _, j := range journals {
		if err := j.each(j.end, each); err != nil {
			return s.damaged(err)
		}
	}
	return nil
}

// MergeLeases brings all leases from their journals into the table, so that the
// database alone has everything.
func (s *Store) MergeLeases(ctx context.Context) error {
	return s.leases.mergeAll(ctx, 0)
}

// inTransaction runs work in a transaction on the one connection that writes.
func (s *Store) inTransaction(ctx context.Context, work func(*sql.Tx) error) error {
	db, err := s.write.DB()
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
