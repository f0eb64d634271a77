package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// The table says the last word on who holds an address: a lease of another
// client takes the place of one that is bound and has not ended only if the
// journal says that the first client gave it up in between. The DHCP server
// never gives such an address away; a record that says so comes from a mistake
// of ours, or of a second server on this database. It is refused, and told.
//
// What an address had before is not read for each lease. The statement that
// stores leases passes over those that are held by another ([upsertLeases]);
// the journal is then read once more, beginning with what the table has at
// these addresses, and what it makes of them is final.

// A merge brings the leases of one journal into the table.
type merge struct {
	ll    *leaseLog
	j     *journal
	now   time.Time
	held  map[netip.Addr]fleet.Lease // what the table had where another was to be stored
	twice []conflict
}

// A conflict is a lease that was refused, and the one that stands.
type conflict struct{ stands, refused fleet.Lease }

func (m *merge) run(ctx context.Context) error {
	m.held = make(map[netip.Addr]fleet.Lease)
	for {
		set := newLeaseSet()
		set.now = m.now
		for _, l := range m.held {
			set.put(l)
		}
		if err := m.j.each(m.j.end, set.put); err != nil {
			return m.ll.s.damaged(err)
		}
		known := len(m.held)
		if err := m.store(ctx, set.sorted()); err != nil {
			return err
		}
		if len(m.held) == known { // each round finds more, or is the last
			m.twice = set.twice
			return nil
		}
	}
}

// store brings leases into the table, some at a time.
func (m *merge) store(ctx context.Context, leases []fleet.Lease) error {
	for some := range slices.Chunk(leases, mergeRows) {
		err := errors.Join(ctx.Err(), m.ll.s.inTransaction(ctx, func(tx *sql.Tx) error { return m.upsert(tx, some) }))
		if err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
}

// upsert stores some leases, first of all deletes those without a state.
func (m *merge) upsert(tx *sql.Tx, leases []fleet.Lease) error {
	gone := 0
	for ; gone < len(leases) && leases[gone].State == ""; gone++ {
		if err := m.one(tx, &leases[gone]); err != nil {
			return err
		}
	}
	args := make([]any, 0, leasesPerInsert*strings.Count(leaseValues, "?"))
	after := fmt.Sprintf(upsertLeases, toNano(m.now))
	for some := range slices.Chunk(leases[gone:], leasesPerInsert) {
		args = args[:0]
		for i := range some {
			r := toLeaseRow(&some[i])
			args = append(args, r.Addr, r.Subnet, r.MAC, r.State, r.Expires, r.Hostname, r.ClientID, r.Sum)
		}
		values := strings.Repeat(", "+leaseValues, len(some))[len(", "):]
		if all, err := changes(tx, len(some), insertLeases+values+after, args...); all {
			continue
		} else if err != nil && !isTaken(err) {
			return err
		}
		for i := range some {
			if err := m.one(tx, &some[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// changes runs a statement and reports whether it changed so many rows.
func changes(tx *sql.Tx, want int, query string, args ...any) (bool, error) {
	res, err := tx.Exec(query, args...) //nolint:noctx // short; a context would cost a goroutine each
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return err == nil && n == int64(want), err
}

// one stores a lease, or deletes it when it has no state, unless another client
// holds its address and the journal was not read with that in mind.
func (m *merge) one(tx *sql.Tx, l *fleet.Lease) error {
	if _, known := m.held[l.Addr]; !known {
		old, err := rowAt(tx, l.Addr)
		if err != nil {
			return err
		}
		if old.holdsAgainst(l, m.now) {
			m.held[l.Addr] = old.Lease
			return nil
		}
	}
	if l.State == "" {
		_, err := tx.Exec(deleteLease, toAddr(l.Addr)) //nolint:noctx // the same
		return err
	}
	r := toLeaseRow(l)
	_, err := tx.Exec(insertLeases+leaseValues, r.Addr, r.Subnet, r.MAC, r.State, r.Expires, r.Hostname, r.ClientID, r.Sum) //nolint:noctx // the same
	return err
}

// A standing is what the table has at an address, if anything.
type standing struct{ fleet.Lease }

// holdsAgainst reports whether the lease of another client may not take this
// one's place.
func (s standing) holdsAgainst(l *fleet.Lease, now time.Time) bool {
	return s.State == fleet.LeaseBound && s.MAC != l.MAC && s.Expires.After(now)
}

// rowAt returns what the table has at an address.
func rowAt(tx *sql.Tx, addr netip.Addr) (standing, error) {
	var r leaseRow
	row := tx.QueryRow("SELECT addr, subnet, mac, state, expires, hostname, client_id FROM leases WHERE addr = ?", toAddr(addr)) //nolint:noctx // the same
	err := row.Scan(&r.Addr, &r.Subnet, &r.MAC, &r.State, &r.Expires, &r.Hostname, &r.ClientID)
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, nil
	}
	state, _ := leaseState(byte(r.State)) //nolint:gosec // one of three
	return standing{r.lease(state)}, err
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
