package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// migrations is the schema's history, oldest first. What is in it is frozen:
// a change of the schema is a new entry, with row structs of its own.
func migrations() []*gormigrate.Migration {
	return []*gormigrate.Migration{spine(), leases6(), relays(), leaseJournals(), lessons(), checkups()}
}

const migrationTable = "migrations"

// migrate brings the schema up to date. An existing database is copied
// beside itself before.
func (s *Store) migrate(ctx context.Context, fresh bool, todo []*gormigrate.Migration) error {
	done, err := s.migrationsDone(ctx)
	if err != nil {
		return err
	}
	if err := s.refuseNewer(done, todo); err != nil {
		return err
	}
	if len(done) == len(todo) {
		return nil
	}
	if !fresh {
		if err := s.mergeBefore(ctx); err != nil {
			return err
		}
		if err := s.copyBefore(ctx, done); err != nil {
			return err
		}
	}
	return s.fault("migrate database", gormigrate.New(s.write.WithContext(ctx), migrateOptions(), todo).Migrate())
}

// migrateOptions puts all pending migrations into one transaction: a failed
// one leaves the schema as it was.
func migrateOptions() *gormigrate.Options {
	return &gormigrate.Options{TableName: migrationTable, IDColumnName: "id", IDColumnSize: 64, UseTransaction: true}
}

func (s *Store) migrationsDone(ctx context.Context) ([]string, error) {
	db := s.write.WithContext(ctx)
	if !db.Migrator().HasTable(migrationTable) {
		return nil, s.refuseForeign(db)
	}
	var done []string
	if err := db.Table(migrationTable).Order("id").Pluck("id", &done).Error; err != nil {
		return nil, s.unreadable(err)
	}
	return done, nil
}

// refuseForeign keeps us from writing our tables into somebody else's file.
func (s *Store) refuseForeign(db *gorm.DB) error {
	tables, err := db.Migrator().GetTables()
	if err != nil {
		return s.unreadable(err)
	}
	if len(tables) == 0 {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: "E-DB-FOREIGN", Op: "open database", On: s.path,
		Hint: "name another file", Err: fmt.Errorf("it belongs to another program: it has a table %q", tables[0]),
	}
}

func (s *Store) refuseNewer(done []string, known []*gormigrate.Migration) error {
	for _, id := range done {
		if !slices.ContainsFunc(known, func(m *gormigrate.Migration) bool { return m.ID == id }) {
			return &fleet.Error{
				Kind: fleet.Conflict, Code: "E-DB-NEWER", Op: "open database", On: s.path,
				Hint: s.wayBack(known[len(known)-1].ID),
				Err:  fmt.Errorf("a newer provision wrote it: schema %s, this one knows up to %s", id, known[len(known)-1].ID),
			}
		}
	}
	return nil
}

// wayBack says how to go on with a program that knows a schema and none later.
func (s *Store) wayBack(schema string) string {
	again := "install the newer provision again, or restore "
	if name := copyName(s.path, schema); !missing(name) {
		return again + name + ", which was made before the database was migrated: leases given since are not in it, see Going back in docs/backup.md"
	}
	return again + "a backup that this one made"
}

func missing(name string) bool {
	_, err := os.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// mergeBefore brings leases from their journals into the table: the copy is of
// the database alone, and a migration knows nothing of journals.
func (s *Store) mergeBefore(ctx context.Context) error {
	if !s.write.WithContext(ctx).Migrator().HasTable("lease_journals") {
		return nil
	}
	if s.leases != nil {
		return s.MergeLeases(ctx)
	}
	if err := s.openLeases(ctx); err != nil {
		return err
	}
	err := errors.Join(s.MergeLeases(ctx), s.leases.close()) //nolint:contextcheck // nothing ends the closing early
	s.leases = nil
	return err
}

// copyName is the copy of a database that had a schema.
func copyName(path, schema string) string { return path + ".schema-" + schema }

// copyBefore leaves a copy of the database beside it, named for the schema
// that it has. VACUUM INTO reads what is still in the write-ahead log too.
func (s *Store) copyBefore(ctx context.Context, done []string) error {
	schema := "empty"
	if len(done) > 0 {
		schema = done[len(done)-1]
	}
	target := copyName(s.path, schema)
	part := target + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy database before migration: %w", err)
	}
	err = s.write.WithContext(ctx).Exec("VACUUM INTO ?", part).Error
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return s.fault("copy database before migration", err)
	}
	if err := errors.Join(os.Rename(part, target), syncDir(filepath.Dir(target))); err != nil {
		return fmt.Errorf("copy database before migration: %w", err)
	}
	s.log.InfoContext(ctx, "database copied before migration", "copy", target)
	return nil
}
