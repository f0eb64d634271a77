package store

import (
	"context"
	"errors"

	"github.com/rackstage/provision/store/sqlite3"
)

// Leases, and events that come alone, are so many, and so small, that they do
// not go through gorm, nor through database/sql: see package sqlite3.

// openDirect opens a connection that writes, for one who writes much.
func (s *Store) openDirect(setUp ...string) (*sqlite3.Conn, error) {
	return sqlite3.Open(s.path, append([]string{"PRAGMA synchronous = FULL", "PRAGMA foreign_keys = 1", "PRAGMA busy_timeout = 5000"}, setUp...)...)
}

// inTurn runs work in a transaction on a connection. All who write to this
// database take turns by the one connection that writes otherwise, so nobody
// finds it busy.
func (s *Store) inTurn(ctx context.Context, c *sqlite3.Conn, work func() error) (err error) {
	db, err := s.write.DB()
	if err != nil {
		return err
	}
	turn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, turn.Close()) }()
	if err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := work(); err != nil {
		return errors.Join(err, c.Exec("ROLLBACK"))
	}
	if err := c.Exec("COMMIT"); err != nil {
		_ = c.Exec("ROLLBACK") // which may be over by itself
		return err
	}
	return nil
}
