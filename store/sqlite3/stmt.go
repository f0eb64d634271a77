package sqlite3

import (
	"bytes"
	"errors"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// A Stmt is a compiled statement. Its parameters keep their values until they
// get others. What goes wrong with one of them is said by [Stmt.Step].
type Stmt struct {
	c     *Conn
	p     uintptr
	texts map[int]*text
	bad   error
}

// A text is the value of a parameter: memory of our own, since SQLite does not
// copy it.
type text struct {
	at    uintptr
	room  []byte // what is there
	value []byte // the part that is in use
}

// Prepare compiles a statement.
func (c *Conn) Prepare(query string) (*Stmt, error) {
	zero, err := libc.CString(query)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, zero)
	s := &Stmt{c: c, texts: make(map[int]*text)}
	out := c.tls.Alloc(int(unsafe.Sizeof(s.p)))
	defer c.tls.Free(int(unsafe.Sizeof(s.p)))
	rc := sqlite.Xsqlite3_prepare_v3(c.tls, c.db, zero, -1, sqlite.SQLITE_PREPARE_PERSISTENT, out, 0)
	if rc != sqlite.SQLITE_OK {
		return nil, c.fault(rc)
	}
	s.p = *(*uintptr)(pointer(out))
	return s, nil
}

// Close lets a statement go.
func (s *Stmt) Close() {
	sqlite.Xsqlite3_finalize(s.c.tls, s.p) // what it returns was said by Step
	for _, t := range s.texts {
		libc.Xfree(s.c.tls, t.at)
	}
}

// SetInt sets a parameter; the first one is number 1.
func (s *Stmt) SetInt(n int, v int64) {
	if rc := sqlite.Xsqlite3_bind_int64(s.c.tls, s.p, int32(n), v); rc != sqlite.SQLITE_OK { //nolint:gosec // a few
		s.bad = s.c.fault(rc)
	}
}

// SetText sets a parameter. Giving the same value again costs nothing.
func (s *Stmt) SetText(n int, v []byte) {
	t := s.texts[n]
	if t != nil && bytes.Equal(t.value, v) {
		return
	}
	if t == nil {
		t = &text{}
		s.texts[n] = t
	}
	if t.at == 0 || len(t.room) < len(v) {
		libc.Xfree(s.c.tls, t.at)
		room := max(64, len(v))
		if t.at = libc.Xmalloc(s.c.tls, libc.Tsize_t(room)); t.at == 0 { //nolint:gosec // not negative
			s.bad, t.room, t.value = errors.New("out of memory"), nil, nil
			return
		}
		t.room = unsafe.Slice((*byte)(pointer(t.at)), room)
	}
	t.value = t.room[:copy(t.room, v)]
	if rc := sqlite.Xsqlite3_bind_text(s.c.tls, s.p, int32(n), t.at, int32(len(v)), 0); rc != sqlite.SQLITE_OK { //nolint:gosec // as SQLite allows
		s.bad = s.c.fault(rc)
	}
}

// Step goes on to the next row; it returns false when there is none.
func (s *Stmt) Step() (row bool, err error) {
	if s.bad != nil {
		return false, s.bad
	}
	switch rc := sqlite.Xsqlite3_step(s.c.tls, s.p); rc {
	case sqlite.SQLITE_ROW:
		return true, nil
	case sqlite.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.fault(rc)
	}
}

// Reset lets a statement be run again.
func (s *Stmt) Reset() {
	sqlite.Xsqlite3_reset(s.c.tls, s.p) // what it returns was said by Step
	s.bad = nil
}

// Run runs a statement that returns no rows.
func (s *Stmt) Run() error {
	_, err := s.Step()
	s.Reset()
	return err
}

// Int returns a column of the row; the first one is number 0.
func (s *Stmt) Int(n int) int64 {
	return sqlite.Xsqlite3_column_int64(s.c.tls, s.p, int32(n)) //nolint:gosec // a few
}

// Text returns a column of the row, valid until the next step.
func (s *Stmt) Text(n int) []byte {
	p := sqlite.Xsqlite3_column_text(s.c.tls, s.p, int32(n))     //nolint:gosec // a few
	size := sqlite.Xsqlite3_column_bytes(s.c.tls, s.p, int32(n)) //nolint:gosec // a few
	if p == 0 || size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(p)), size)
}
