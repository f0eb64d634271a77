package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rackstage/provision/fleet"
)

// A Store is an open database. Its methods may be called from many
// goroutines; writes happen one after the other.
type Store struct {
	path   string
	log    *slog.Logger
	marker *marker
	write  *gorm.DB // one connection
	read   *gorm.DB // several, that cannot write

	leases *leaseLog

	mu     sync.Mutex
	events *eventWriter
	runs   map[fleet.RunID]savedRun // what the file holds of the runs under way
}

// Open opens the database at path and brings its schema up to date. It
// creates the file when there has never been one.
func Open(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	m, err := openMarker(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, log: log, marker: m, runs: map[fleet.RunID]savedRun{}}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close()) //nolint:contextcheck // nothing ends the closing early
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	fresh, err := checkFile(s.path, s.marker.kept)
	if err != nil {
		return err
	}
	if s.write, err = connect(ctx, s.path, writer); err != nil {
		return s.unreadable(err)
	}
	if !fresh {
		if err := s.quickCheck(ctx); err != nil {
			return err
		}
	}
	if err := s.migrate(ctx, fresh, migrations()); err != nil {
		return err
	}
	if s.read, err = connect(ctx, s.path, reader); err != nil {
		return s.unreadable(err)
	}
	if s.events, err = s.openEventWriter(); err != nil {
		return s.unreadable(err)
	}
	if err := s.openLeases(ctx); err != nil {
		return err
	}
	return s.marker.keep()
}

// Close writes back what is in the write-ahead log and lets the database go.
// It is the last call; a second one does nothing.
func (s *Store) Close() error {
	var errs []error
	if s.leases != nil {
		errs = append(errs, s.leases.close())
		s.leases = nil
	}
	if s.events != nil {
		errs = append(errs, s.events.close())
		s.events = nil
	}
	for _, db := range []*gorm.DB{s.read, s.write} { // the writer last: it empties the log
		if db == nil {
			continue
		}
		pool, err := db.DB()
		if err == nil {
			err = pool.Close()
		}
		errs = append(errs, err)
	}
	s.read, s.write = nil, nil
	return errors.Join(append(errs, s.marker.close())...)
}

// A mode says what a connection pool is for.
type mode struct {
	conns   int
	pragmas []string
	txlock  string
}

// SQLite has one writer at a time anyway; one connection makes them queue in
// here instead of failing with "database is locked".
var (
	writer = mode{1, []string{"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(5000)"}, "immediate"}
	reader = mode{4, []string{"query_only(1)", "foreign_keys(1)", "busy_timeout(5000)"}, "deferred"}
)

func connect(ctx context.Context, path string, m mode) (*gorm.DB, error) {
	query := url.Values{"_pragma": m.pragmas, "_txlock": {m.txlock}}
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String()
	pool, err := sql.Open(sqlite.DriverName, dsn)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	pool.SetMaxOpenConns(m.conns)
	pool.SetMaxIdleConns(m.conns) // opening one costs more than a query
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	// PrepareStmt would gain nothing: this driver compiles a statement each
	// time that it is run. It would cost a goroutine that never ends.
	db, err := gorm.Open(&sqlite.Dialector{Conn: pool}, &gorm.Config{
		TranslateError:         true,
		SkipDefaultTransaction: true, // every write of ours has one of its own
		Logger:                 logger.Discard,
	})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return db, nil
}

// quickCheck reads the whole file and looks at its structure. What is in the
// documents is checked when they are loaded.
func (s *Store) quickCheck(ctx context.Context) error {
	var first string
	if err := s.write.WithContext(ctx).Raw("PRAGMA quick_check(1)").Scan(&first).Error; err != nil {
		return s.unreadable(err)
	}
	if first != "ok" {
		return s.damaged(errors.New(first))
	}
	return nil
}
