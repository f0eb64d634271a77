package store

import (
	"errors"
	"fmt"

	"github.com/rackstage/provision/store/sqlite3"
)

const selectLeases = "SELECT addr, subnet, mac, state, expires, hostname, client_id, sum FROM leases"

// scanLease reads a row of [selectLeases].
func scanLease(s *sqlite3.Stmt) (r record, sum uint32) {
	return record{
		addr: uint32(s.Int(0)), subnet: s.Text(1), mac: uint64(s.Int(2)), state: byte(s.Int(3)), //nolint:gosec // as they were written
		expires: s.Int(4), hostname: s.Text(5), clientID: s.Text(6),
	}, uint32(s.Int(7)) //nolint:gosec // the same
}

// eachRow calls do for the leases in the table, in order of address.
func (s *Store) eachRow(do func(*record)) (err error) {
	c, err := sqlite3.Open(s.path, "PRAGMA query_only = 1", "PRAGMA busy_timeout = 5000")
	if err != nil {
		return s.fault("read leases", err)
	}
	defer func() { err = errors.Join(err, s.fault("read leases", c.Close())) }()
	rows, err := c.Prepare(selectLeases + " ORDER BY addr")
	if err != nil {
		return s.fault("read leases", err)
	}
	defer rows.Close()
	var buf []byte
	for {
		more, err := rows.Step()
		if err != nil || !more {
			return s.fault("read leases", err)
		}
		r, want := scanLease(rows)
		var sum uint32
		if sum, buf = r.sum(buf); sum != want || stateOf(r.state) == "" {
			return s.damaged(fmt.Errorf("lease %s: the checksum does not fit", addrOf(r.addr)))
		}
		do(&r)
	}
}

// A leaseWriter brings leases into the table.
type leaseWriter struct {
	c      *sqlite3.Conn
	insert *sqlite3.Stmt // if nobody is in the way
	renew  *sqlite3.Stmt // the same lease, for longer
	upsert *sqlite3.Stmt // whatever was there
	remove *sqlite3.Stmt
	lookUp *sqlite3.Stmt

	renewing bool // the last lease was one that the table had
	buf      []byte
}

const (
	insertLease = "INTO leases (addr, subnet, mac, state, expires, hostname, client_id, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
	renewLease  = "UPDATE leases SET expires = ?, hostname = ?, client_id = ?, sum = ? WHERE addr = ? AND subnet = ? AND mac = ? AND state = 1"
)

// openLeaseWriter opens a connection of its own. It may keep 64 MiB of pages:
// with a million leases each transaction changes most of the index.
func (s *Store) openLeaseWriter() (w *leaseWriter, err error) {
	c, err := s.openDirect("PRAGMA cache_size = -65536")
	if err != nil {
		return nil, err
	}
	w = &leaseWriter{c: c}
	for _, p := range []struct {
		into  **sqlite3.Stmt
		query string
	}{
		{&w.insert, "INSERT " + insertLease + " ON CONFLICT DO NOTHING"},
		{&w.renew, renewLease},
		{&w.upsert, "INSERT OR REPLACE " + insertLease}, // also takes the place of the one that the same client had on this subnet
		{&w.remove, "DELETE FROM leases WHERE addr = ?"},
		{&w.lookUp, selectLeases + " WHERE addr = ?"},
	} {
		if *p.into, err = c.Prepare(p.query); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *leaseWriter) close() error {
	for _, s := range []*sqlite3.Stmt{w.insert, w.renew, w.upsert, w.remove, w.lookUp} {
		if s != nil {
			s.Close()
		}
	}
	return w.c.Close()
}

// tryEasy stores a lease if that takes no other's place: one of an address that
// nobody has, by a client that has none on this subnet, or one more of the same.
func (w *leaseWriter) tryEasy(r *record) (ok bool, err error) {
	for range 2 {
		if w.renewing {
			ok, err = w.tryRenew(r)
		} else {
			ok, err = w.put(w.insert, r)
		}
		if ok || err != nil {
			return ok, err
		}
		w.renewing = !w.renewing // most are like the one before
	}
	return false, nil
}

func (w *leaseWriter) tryRenew(r *record) (ok bool, err error) {
	if r.state != codeBound {
		return false, nil
	}
	var sum uint32
	sum, w.buf = r.sum(w.buf)
	s := w.renew
	s.SetInt(1, r.expires)
	s.SetText(2, r.hostname)
	s.SetText(3, r.clientID)
	s.SetInt(4, int64(sum))
	s.SetInt(5, int64(r.addr))
	s.SetText(6, r.subnet)
	s.SetInt(7, int64(r.mac)) //nolint:gosec // 48 bits
	err = s.Run()
	return w.c.Changes() > 0, err
}

// put stores a lease by a statement, and reports whether it did.
func (w *leaseWriter) put(s *sqlite3.Stmt, r *record) (ok bool, err error) {
	var sum uint32
	sum, w.buf = r.sum(w.buf)
	s.SetInt(1, int64(r.addr))
	s.SetText(2, r.subnet)
	s.SetInt(3, int64(r.mac)) //nolint:gosec // 48 bits
	s.SetInt(4, int64(r.state))
	s.SetInt(5, r.expires)
	s.SetText(6, r.hostname)
	s.SetText(7, r.clientID)
	s.SetInt(8, int64(sum))
	err = s.Run()
	return w.c.Changes() > 0, err
}

// delete removes the lease of an address, if there is one.
func (w *leaseWriter) delete(addr uint32) error {
	w.remove.SetInt(1, int64(addr))
	return w.remove.Run()
}

// at returns the lease that the table has at an address; one without a state
// when it has none.
func (w *leaseWriter) at(addr uint32) (r record, err error) {
	w.lookUp.SetInt(1, int64(addr))
	defer w.lookUp.Reset()
	if found, err := w.lookUp.Step(); err != nil || !found {
		return r, err
	}
	r, _ = scanLease(w.lookUp)
	r.subnet, r.hostname, r.clientID = append([]byte{}, r.subnet...), append([]byte{}, r.hostname...), append([]byte{}, r.clientID...)
	return r, nil
}
