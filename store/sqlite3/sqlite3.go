// Package sqlite3 runs one statement a million times.
//
// It is SQLite's own interface, https://www.sqlite.org/cintro.html, without
// database/sql on top: the driver there compiles a statement each time that it
// is run and copies every column twice, which costs several times what SQLite
// does with a small row. Everything but leases, and events that come alone, goes
// by package store's gorm.
//
// The engine is the same as the driver's, in the same process, so the two see
// each other's locks. A [Conn] and what is made of it belong to one goroutine
// at a time.
package sqlite3

import (
	"errors"
	"fmt"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// An Error is what SQLite did not like.
type Error struct {
	code int32
	text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.text, e.code) }

// Code is SQLite's extended result code.
func (e *Error) Code() int { return int(e.code) }

// A Conn is a connection to a database.
type Conn struct {
	tls  *libc.TLS
	db   uintptr
	pins []uintptr
}

// Open opens a database that exists, and runs statements to prepare the
// connection.
func Open(path string, setUp ...string) (_ *Conn, err error) {
	c := &Conn{tls: libc.NewTLS()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	c.pin()
	name, err := libc.CString(path)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	out := c.tls.Alloc(int(unsafe.Sizeof(c.db)))
	defer c.tls.Free(int(unsafe.Sizeof(c.db)))
	// Without its mutexes: they would be locked for every column of every row.
	rc := sqlite.Xsqlite3_open_v2(c.tls, name, out, sqlite.SQLITE_OPEN_READWRITE|sqlite.SQLITE_OPEN_NOMUTEX, 0)
	if c.db = *(*uintptr)(pointer(out)); rc != sqlite.SQLITE_OK {
		return nil, c.fault(rc)
	}
	sqlite.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	for _, query := range setUp {
		if err := c.Exec(query); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
	}
	return c, nil
}

// Close closes the connection, whose statements must be closed.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	var err error
	if rc := sqlite.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite.SQLITE_OK {
		err = c.fault(rc)
	}
	for _, p := range c.pins {
		libc.Xfree(c.tls, p)
	}
	c.tls.Close()
	c.tls = nil
	return err
}

// pin keeps one block of memory of each size that the allocator shares pages
// for. With the last block of its size a page goes back to the system, and the
// next block takes a new one: SQLite frees what it has just got so often that
// this was a fifth of the time that an index took to grow.
func (c *Conn) pin() {
	for size := libc.Tsize_t(16); size <= 16<<10; size *= 2 {
		c.pins = append(c.pins, libc.Xmalloc(c.tls, size))
	}
}

// Exec runs statements that return nothing.
func (c *Conn) Exec(query string) error {
	text, err := libc.CString(query)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, text)
	if rc := sqlite.Xsqlite3_exec(c.tls, c.db, text, 0, 0, 0); rc != sqlite.SQLITE_OK {
		return c.fault(rc)
	}
	return nil
}

// Changes is how many rows the last statement changed.
func (c *Conn) Changes() int { return int(sqlite.Xsqlite3_changes(c.tls, c.db)) }

func (c *Conn) fault(rc int32) error {
	e := &Error{code: rc, text: libc.GoString(sqlite.Xsqlite3_errstr(c.tls, rc))}
	if c.db == 0 {
		return e
	}
	if more := libc.GoString(sqlite.Xsqlite3_errmsg(c.tls, c.db)); more != e.text {
		e.text += ": " + more
	}
	return e
}

// pointer is the address of memory that is not Go's.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }
