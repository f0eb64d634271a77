package store

import (
	"database/sql"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Who waited for his turn already when a merge began to wait gets it before long,
// not when everything is merged. Which of the two is served first is left to
// chance: it is tried until the merge is.
func TestAMergeGivesWayToWhoWaitedBeforeIt(t *testing.T) {
	for range 12 {
		if before := mergedBefore(t, openFresh(t)); before > 0 {
			if before > leastMerged+breatheEach {
				t.Errorf("%d leases were merged before who waited had his turn, want %d at most", before, leastMerged+breatheEach)
			}
			return
		}
	}
	t.Error("the merge was never first")
}

// mergedBefore returns how many leases a merge brings into the table before
// somebody who waits has his turn.
func mergedBefore(t *testing.T, s *Store) (n int) {
	t.Helper()
	for i := range (leastMerged+10*breatheEach)/2048 + 1 {
		some := make([]fleet.Lease, 2048)
		for k := range some {
			some[k] = someLease(2048*i + k)
		}
		noError(t, s.SaveLeases(t.Context(), some))
	}
	db, err := s.write.DB()
	noError(t, err)
	turn, err := db.Conn(t.Context())
	noError(t, err)
	seen, done := make(chan error, 1), make(chan error, 1)
	go func() {
		seen <- s.inTransaction(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRow("SELECT count(*) FROM leases").Scan(&n)
		})
	}()
	waiting(t, db, 1)
	go func() { done <- s.MergeLeases(t.Context()) }()
	waiting(t, db, 2)
	noError(t, turn.Close())
	noError(t, <-seen)
	noError(t, <-done)
	return n
}

// waiting returns once so many have waited.
func waiting(t *testing.T, db *sql.DB, n int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); db.Stats().WaitCount < n; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", db.Stats().WaitCount, n)
		}
	}
}
