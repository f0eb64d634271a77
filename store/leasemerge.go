package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// The table says the last word on who holds an address: a lease of another
// client takes the place of one that is bound and has not ended only if the
// journal says that the first client's lease is over. The DHCP server stores that
// with each lease that takes another's place, whatever the clock says; a record
// without it comes from a mistake of ours, or of a second server on this
// database. It is refused, and told.
//
// A lease that takes no other's place is stored at once ([leaseWriter.tryEasy]).
// For the others it is read who has the address. What is held by another stays;
// the journal is then read once more, beginning with what the table has at these
// addresses, and what it makes of them is final.

// A merge brings the leases of one journal into the table.
type merge struct {
	ll     *leaseLog
	j      *journal
	w      *leaseWriter
	now    int64
	gently bool // machines are being served meanwhile
	timer  *time.Timer
	held   map[uint32]record // what the table had where another was to be stored
	twice  []conflict
}

// A conflict is a lease that was refused, and the one that stands.
type conflict struct{ stands, refused fleet.Lease }

func (m *merge) run(ctx context.Context) (err error) {
	if m.w, err = m.ll.s.openLeaseWriter(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.w.close()) }()
	m.held = make(map[uint32]record)
	m.timer = time.NewTimer(0)
	defer m.timer.Stop()
	for {
		set := newLeaseSet(m.j.leases)
		set.now = m.now
		for _, r := range m.held {
			set.put(&r)
		}
		if err := m.j.each(m.j.end, m.calmly(ctx, set.put)); err != nil {
			return m.ll.s.damaged(err)
		}
		known := len(m.held)
		if err := m.store(ctx, set); err != nil {
			return err
		}
		if len(m.held) == known { // each round finds more, or is the last
			m.twice = set.twice
			return nil
		}
	}
}

const (
	mostMerged  = 250_000 // in one transaction: they share pages of the index, so the more the better
	leastMerged = 25_000  // before others who want to write have their turn: a tenth of a second
	breatheEach = 128     // stored; under a millisecond, so that no packet waits for long
	breatheRead = 1024    // the same of those that are read
	breath      = 50 * time.Microsecond
)

// store brings leases into the table. One transaction ends when it is large, or
// when somebody waits for his.
func (m *merge) store(ctx context.Context, set *leaseSet) error {
	db, err := m.ll.s.write.DB()
	if err != nil {
		return err
	}
	for left := set.sort(); len(left) > 0; {
		// Who waits already makes us wait for our turn, which counts, too.
		waiting := db.Stats().WaitCount
		err := m.ll.s.inTurn(ctx, m.w.c, func() error {
			for done := 0; len(left) > 0 && done < mostMerged; done += breatheEach {
				if done >= leastMerged && db.Stats().WaitCount > waiting {
					return nil
				}
				n := min(len(left), breatheEach)
				if err := m.put(set, left[:n]); err != nil {
					return err
				}
				left = left[n:]
				if err := m.breathe(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// breathe lets packets be read. Giving way to what can run now would not do: the
// scheduler looks at the network when there is nothing else to run, or after 10
// ms.
func (m *merge) breathe(ctx context.Context) error {
	if m.gently {
		m.timer.Reset(breath)
		<-m.timer.C
	}
	return ctx.Err()
}

// calmly returns put with a breath now and then.
func (m *merge) calmly(ctx context.Context, put func(*record)) func(*record) {
	count := 0
	return func(r *record) {
		if count++; count%breatheRead == 0 {
			_ = m.breathe(ctx) // that ctx is done is seen when the first lease is to be stored
		}
		put(r)
	}
}

// put stores some leases, and deletes those without a state.
func (m *merge) put(set *leaseSet, leases []kept) error {
	for i := range leases {
		r := set.record(&leases[i])
		if r.state != 0 {
			if ok, err := m.w.tryEasy(&r); ok || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := m.one(&r); err != nil {
			return err
		}
	}
	return nil
}

// one stores a lease, or deletes it when it has no state, unless another client
// holds its address and the journal was not read with that in mind.
func (m *merge) one(r *record) error {
	if _, known := m.held[r.addr]; !known {
		old, err := m.w.at(r.addr)
		if err != nil {
			return err
		}
		if old.holdsAgainst(r, m.now) {
			m.held[r.addr] = old
			return nil
		}
	}
	if r.state == 0 {
		return m.w.delete(r.addr)
	}
	_, err := m.w.put(m.w.upsert, r)
	return err
}

// tell raises an alarm for each address with a lease that was refused, and
// clears those that the journal before raised.
func (ll *leaseLog) tell(ctx context.Context, twice []conflict) {
	if len(twice) > 0 {
		ll.refused.Add(int64(len(twice)))
		ll.s.log.ErrorContext(ctx, "leases refused, others hold their addresses", "leases", len(twice), "addr", twice[0].refused.Addr)
	}
	ll.mu.Lock()
	alarms, former := ll.alarms, ll.told
	ll.told = nil
	for i := range twice {
		if on := twice[i].stands.Addr.String(); len(ll.told) < maxTold && !slices.Contains(ll.told, on) {
			ll.told = append(ll.told, on)
		}
	}
	told := ll.told
	ll.mu.Unlock()
	if alarms == nil {
		return
	}
	for _, on := range former {
		if !slices.Contains(told, on) {
			alarms.Clear(fleet.CodeLeaseTwice, on)
		}
	}
	for _, c := range twice {
		if on := c.stands.Addr.String(); slices.Contains(told, on) {
			alarms.Raise(fleet.CodeLeaseTwice, on, fmt.Sprintf("%s holds it until %s, and %s was given it", c.stands.MAC, c.stands.Expires.Format(time.RFC3339), c.refused.MAC))
		}
	}
}

// maxTold is for how many addresses an alarm stands.
const maxTold = 32

// Alarms is told of trouble that an operator must know of.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// SetAlarms says who is told of leases that the table refuses.
func (s *Store) SetAlarms(a Alarms) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	s.leases.alarms = a
}

// RefusedLeases is how many leases the table refused since the start, because
// another client holds their address.
func (s *Store) RefusedLeases() int64 { return s.leases.refused.Load() }
