package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"
)

// Merging a journal takes a quarter of the processor for as long as packets
// come as fast as they can. Machines that are switched on all at once are served
// first: journals pile up meanwhile, and are merged when it is calm, or when the
// pile is high. The next start reads a pile as fast as it reads the table.
const (
	pile       = 8                // journals, more than a million leases; then one is merged for each that comes
	calm       = 4_000            // leases stored in a second, a tenth of what a core can do
	retryMerge = 10 * time.Second // after a failure
)

// run merges journals, one at a look: a second apart while some wait, and at
// once when it is told of a new one.
func (ll *leaseLog) run(ctx context.Context) {
	defer close(ll.done)
	look := time.NewTimer(0)
	defer look.Stop()
	p := pace{at: time.Now(), busy: true}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ll.wake:
		case <-look.C:
		}
		waiting, err := ll.mergeDue(ctx, &p)
		switch {
		case err != nil && ctx.Err() == nil:
			ll.s.log.ErrorContext(ctx, "leases stay in the journal", "err", err)
			look.Reset(retryMerge)
		case waiting:
			look.Reset(time.Second)
		}
	}
}

// mergeDue merges the oldest journal if it is due, and says whether some wait.
func (ll *leaseLog) mergeDue(ctx context.Context, p *pace) (waiting bool, err error) {
	ll.mu.Lock()
	n := len(ll.journals) - 1 // the last is appended to
	busy := p.busyAt(time.Now(), ll.stored)
	ll.mu.Unlock()
	if n <= 0 || busy && n < pile {
		return n > 0, nil
	}
	return ll.mergeNext(ctx, 1)
}

// A pace is how fast leases are stored: it is measured over a second, as long
// as somebody looks.
type pace struct {
	at     time.Time
	stored int
	busy   bool
}

// busyAt says whether leases come fast. What is not known, since nobody has
// looked for long, is taken for busy until the next look.
func (p *pace) busyAt(now time.Time, stored int) bool {
	took := now.Sub(p.at)
	if took < time.Second {
		return p.busy
	}
	p.busy = took > 5*time.Second || float64(stored-p.stored) > calm*took.Seconds()
	p.at, p.stored = now, stored
	return p.busy
}

// mergeAll merges the oldest journals until so many are left.
func (ll *leaseLog) mergeAll(ctx context.Context, left int) error {
	for {
		if more, err := ll.mergeNext(ctx, left); err != nil || !more {
			return err
		}
	}
}

// mergeNext merges the oldest journal, unless no more than so many are left, and
// says whether it did. Those who wait for room need not wait for what just
// failed: it is tried again before long.
func (ll *leaseLog) mergeNext(ctx context.Context, left int) (more bool, err error) {
	more, err = ll.mergeOldest(ctx, left)
	if err != nil && ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		err = ll.s.fault("merge leases", err)
	}
	ll.mu.Lock()
	defer ll.mu.Unlock()
	ll.stuck = err
	if err != nil {
		ll.room.Broadcast()
	}
	return more, err
}

// mergeOldest brings the leases of the oldest journal into the table and
// removes it, unless no more than so many are left. It may be interrupted:
// merging once more does no harm.
func (ll *leaseLog) mergeOldest(ctx context.Context, left int) (more bool, err error) {
	ll.merging.Lock()
	defer ll.merging.Unlock()
	ll.mu.Lock()
	if len(ll.journals) <= left {
		ll.mu.Unlock()
		return false, nil
	}
	j := ll.journals[0]
	ll.mu.Unlock()
	m := merge{ll: ll, j: j, now: toNano(ll.now()), gently: left > 0}
	if err := m.run(ctx); err != nil {
		return false, err
	}
	if err := ll.s.inTransaction(ctx, func(tx *sql.Tx) error { return noteMerged(tx, j) }); err != nil {
		return false, err
	}
	ll.mu.Lock()
	ll.journals = ll.journals[1:]
	ll.room.Broadcast()
	ll.mu.Unlock()
	ll.tell(ctx, m.twice)
	return true, errors.Join(j.f.Close(), os.Remove(j.f.Name()))
}

// noteMerged notes that a journal is merged, and forgets those before.
func noteMerged(tx *sql.Tx, j *journal) error {
	if _, err := tx.Exec("DELETE FROM lease_journals WHERE gen < ?", j.gen); err != nil { //nolint:noctx // short
		return err
	}
	_, err := tx.Exec("UPDATE lease_journals SET batches = ? WHERE gen = ?", merged, j.gen) //nolint:noctx // the same
	return err
}
