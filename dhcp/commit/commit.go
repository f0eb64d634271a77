// Package commit puts leases on the disk before anybody is told that he has
// one.
//
// A DHCP server hands each answer that promises a lease to a [Queue]. It stores
// the leases of many answers in one transaction, and lets the answers go then.
// While one transaction is under way the next one fills up: nothing ever waits
// for company, and under load company is always there.
package commit

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	// GroupSize is how many answers share a transaction at most.
	GroupSize = 256

	saveTimeout = 10 * time.Second
	slow        = time.Second // a client has asked again by now
)

// Options say what an answer R and a lease L are to a server.
type Options[R, L any] struct {
	Size   int                              // answers that may wait
	Leases func(to []L, r *R) []L           // appends the leases that an answer promises
	Addr   func(l *L) netip.Addr            // what a lease is of
	Save   func(context.Context, []L) error // puts leases on the disk: all of them or none
	Stored func(leases []L, ok bool)        // is told for each lease whether it is there
	Send   func(answers []R)                // lets answers go whose leases are there
	Spare  func(answers []R)                // does what can be done for those whose leases are not
	Sick   func(err error)                  // is told each time that the store fails, and nil when that is over
	Log    *slog.Logger
}

// A Queue is the answers that wait for the disk.
type Queue[R, L any] struct {
	o     Options[R, L]
	wait  chan R
	sick  bool // the last transaction failed
	group []R
	last  map[netip.Addr]int // in a group: where an address comes last
}

// New returns an empty queue.
func New[R, L any](o Options[R, L]) *Queue[R, L] {
	return &Queue[R, L]{o: o, wait: make(chan R, o.Size), group: make([]R, 0, GroupSize), last: make(map[netip.Addr]int, GroupSize)}
}

// Add queues an answer. It fails when the store is too slow: then nothing is
// promised, and the client will ask again.
func (q *Queue[R, L]) Add(r R) bool {
	select {
	case q.wait <- r:
		return true
	default:
		q.drop(r)
		return false
	}
}

// Run works the queue off until ctx is done.
func (q *Queue[R, L]) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-q.wait:
			q.Commit(ctx, q.fill(r))
			clear(q.group)
		}
	}
}

// Abandon gives up what still waits, once nobody adds and Run has returned.
func (q *Queue[R, L]) Abandon() {
	for {
		select {
		case r := <-q.wait:
			q.drop(r)
		default:
			return
		}
	}
}

// drop is apart from Add, where a pointer to the answer would cost an
// allocation each time.
func (q *Queue[R, L]) drop(r R) { q.o.Stored(q.o.Leases(nil, &r), false) }

// fill takes what else is waiting.
func (q *Queue[R, L]) fill(first R) []R {
	q.group = append(q.group[:0], first)
	for len(q.group) < GroupSize {
		select {
		case r := <-q.wait:
			q.group = append(q.group, r)
		default:
			return q.group
		}
	}
	return q.group
}

// Commit stores the leases of a group of answers and lets those go.
func (q *Queue[R, L]) Commit(ctx context.Context, group []R) {
	// Half a second before the end a lease is stored all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	q.save(ctx, group)
}

// save stores the leases of a group. If the store refuses a lease, the answer
// with that one alone is lost: the group is halved until the others are stored.
func (q *Queue[R, L]) save(ctx context.Context, group []R) {
	all := make([]L, 0, len(group))
	for i := range group {
		all = q.o.Leases(all, &group[i])
	}
	began := time.Now()
	err := q.o.Save(ctx, q.lastOfEach(all))
	if took := time.Since(began); took > slow {
		q.o.Log.WarnContext(ctx, "leases took long to store: the disk is slow", "leases", len(all), "took", took)
	}
	refused := fleet.KindOf(err) == fleet.Invalid || fleet.KindOf(err) == fleet.Conflict
	if half := len(group) / 2; refused && half > 0 {
		q.save(ctx, group[:half])
		q.save(ctx, group[half:])
		return
	}
	q.o.Stored(all, err == nil)
	if refused {
		q.o.Log.ErrorContext(ctx, "lease refused by the store", "addr", q.o.Addr(&all[0]), "err", err)
	} else {
		q.report(ctx, err)
	}
	if err != nil {
		q.o.Spare(group)
		return
	}
	q.o.Send(group)
}

// report tells for as long as the store fails. It logs when that begins and
// when it is over: not each time.
func (q *Queue[R, L]) report(ctx context.Context, err error) {
	switch {
	case err != nil && !q.sick:
		q.o.Log.ErrorContext(ctx, "leases not stored, no new ones are given", "err", err)
	case err == nil && q.sick:
		q.o.Log.InfoContext(ctx, "leases stored again")
	}
	if err != nil || q.sick {
		q.o.Sick(err)
	}
	q.sick = err != nil
}

// lastOfEach returns the last lease of each address, in order.
func (q *Queue[R, L]) lastOfEach(leases []L) []L {
	clear(q.last)
	for i := range leases {
		q.last[q.o.Addr(&leases[i])] = i
	}
	if len(q.last) == len(leases) {
		return leases
	}
	kept := make([]L, 0, len(q.last))
	for i := range leases {
		if q.last[q.o.Addr(&leases[i])] == i {
			kept = append(kept, leases[i])
		}
	}
	return kept
}
