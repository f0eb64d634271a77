package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A leaseLog is the journals whose leases are not in the table: the last one
// is appended to; those before wait to be merged into the table, which takes a
// hundred times as long ([leaseLog.run]). The table lease_journals says which
// journals there are and how long they are at least, so that one that is missing
// or cut is noticed, and which was merged last.
type leaseLog struct {
	s     *Store
	limit int64 // size at which the next journal is begun

	mu       sync.Mutex
	journals []*journal // oldest first
	next     uint64     // generation of the next one
	room     *sync.Cond // one less, or none for now
	stored   int        // leases, since the start
	stuck    error      // why the last merging failed
	alarms   Alarms
	told     []string // addresses that an alarm stands for

	now     func() time.Time
	refused atomic.Int64 // leases

	merging sync.Mutex // held while journals are merged, or all of them are read
	wake    chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

const (
	journalLimit = 8 << 20 // a few hundred thousand leases, which one transaction merges
	maxJournals  = 16      // then storing waits for merging
	mergeAtClose = 20_000  // leases; more are read from the journal at the next start
)

func (s *Store) journalPath(gen uint64) string { return fmt.Sprintf("%s-leases-%d", s.path, gen) }

// openLeases opens the journals that the table says there are.
func (s *Store) openLeases(ctx context.Context) error {
	ll := &leaseLog{s: s, limit: journalLimit, next: 1, now: time.Now, wake: make(chan struct{}, 1), done: make(chan struct{})}
	ll.room = sync.NewCond(&ll.mu)
	var known []struct{ Gen, Batches int64 }
	if err := s.write.WithContext(ctx).Table("lease_journals").Order("gen").Find(&known).Error; err != nil {
		return s.unreadable(err)
	}
	for _, k := range known {
		gen := uint64(k.Gen) //nolint:gosec // never negative
		ll.next = gen + 1
		if k.Batches == merged {
			continue
		}
		j, err := openJournal(s.journalPath(gen), gen, uint64(k.Batches)) //nolint:gosec // not negative
		if err != nil {
			return errors.Join(s.damaged(err), ll.closeFiles())
		}
		ll.journals = append(ll.journals, j)
	}
	if err := ll.sweep(); err != nil {
		return errors.Join(err, ll.closeFiles())
	}
	ctx, ll.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.leases = ll
	go ll.run(ctx)
	return nil
}

// merged stands in the table in place of a number of batches.
const merged = -1

// sweep removes the files of journals that are merged, or that were made and
// not used before the program ended. One of the future, with leases in it, is
// left from a database that was replaced by an older one; one that cannot be
// read may have leases in it.
func (ll *leaseLog) sweep() error {
	files, err := os.ReadDir(filepath.Dir(ll.s.path))
	if err != nil {
		return err
	}
	for _, f := range files {
		number, ours := strings.CutPrefix(f.Name(), filepath.Base(ll.s.path)+"-leases-")
		gen, err := strconv.ParseUint(number, 10, 63)
		if !ours || err != nil || slices.ContainsFunc(ll.journals, func(j *journal) bool { return j.gen == gen }) {
			continue
		}
		path := ll.s.journalPath(gen)
		if gen >= ll.next {
			if err := unused(path); err != nil {
				return ll.s.tooOld(path, err)
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// append stores leases in the last journal, or in a new one when that is long.
func (ll *leaseLog) append(ctx context.Context, leases []fleet.Lease) error {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	j, err := ll.last(ctx)
	if err != nil {
		return err
	}
	if err := j.append(leases); err != nil {
		return err
	}
	ll.stored += len(leases)
	return nil
}

// last returns the journal to append to.
func (ll *leaseLog) last(ctx context.Context) (*journal, error) {
	n := len(ll.journals)
	if n > 0 && ll.journals[n-1].end < ll.limit {
		return ll.journals[n-1], nil
	}
	for len(ll.journals) >= maxJournals && ctx.Err() == nil {
		if ll.stuck != nil {
			return nil, ll.stuck
		}
		ll.waitForRoom(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	j, err := createJournal(ll.s.journalPath(ll.next), ll.next)
	if err != nil {
		return nil, err
	}
	err = ll.s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, full := range ll.journals {
			if err := noteBatches(tx, full); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO lease_journals (gen, batches) VALUES (?, 0)", j.gen)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, j.f.Close(), os.Remove(j.f.Name()))
	}
	ll.next++
	ll.journals = append(ll.journals, j)
	ll.nudge()
	return j, nil
}

// noteBatches notes how many batches a journal has, at least. It may have been
// merged this very moment.
func noteBatches(tx *sql.Tx, j *journal) error {
	_, err := tx.Exec("UPDATE lease_journals SET batches = ? WHERE gen = ? AND batches <> ?", j.seq, j.gen, merged) //nolint:noctx // short
	return err
}

func (ll *leaseLog) waitForRoom(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		ll.mu.Lock()
		defer ll.mu.Unlock()
		ll.room.Broadcast()
	})
	defer stop()
	ll.nudge()
	ll.room.Wait()
}

func (ll *leaseLog) nudge() {
	select {
	case ll.wake <- struct{}{}:
	default:
	}
}

// hold returns the journals as they are now, and keeps them from being merged
// until release.
func (ll *leaseLog) hold() (as []journal) {
	ll.merging.Lock()
	ll.mu.Lock()
	defer ll.mu.Unlock()
	for _, j := range ll.journals {
		as = append(as, journal{f: j.f, gen: j.gen, end: j.end})
	}
	return as
}

// release lets merging begin: not before, since who reads all leases at the
// start is in a hurry.
func (ll *leaseLog) release() {
	ll.merging.Unlock()
	ll.nudge()
}

// close stops the merging. A journal with few leases is merged, so that the
// database alone has everything; of the others it notes how long they are.
func (ll *leaseLog) close() error {
	ll.stop()
	<-ll.done
	ctx := context.Background()
	leases := 0
	for _, j := range ll.journals {
		leases += j.leases
	}
	var err error
	if leases <= mergeAtClose {
		err = ll.mergeAll(ctx, 0)
	}
	for _, j := range ll.journals {
		err = errors.Join(err, ll.s.inTransaction(ctx, func(tx *sql.Tx) error { return noteBatches(tx, j) }))
	}
	return errors.Join(err, ll.closeFiles())
}

func (ll *leaseLog) closeFiles() error {
	var errs []error
	for _, j := range ll.journals {
		errs = append(errs, j.f.Close())
	}
	return errors.Join(errs...)
}
