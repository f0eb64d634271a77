package store

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

func openFresh(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.leases.now = allOver
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// allOver is when all leases of tests have ended, and anybody may have their
// addresses.
func allOver() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }

func reopen(t *testing.T, s *Store) error {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), s.path, s.log)
	if err == nil {
		err = again.Close()
	}
	return err
}

func withNext(migrate func(*gorm.DB) error) []*gormigrate.Migration {
	return append(migrations(), &gormigrate.Migration{ID: "9999-next", Migrate: migrate})
}

func TestAnOlderDatabaseIsCopiedAndMigrated(t *testing.T) {
	s := openFresh(t)
	n := fleet.Node{ID: "n-1", MAC: "52:54:00:00:00:01", Revision: 1}
	if err := s.Save(t.Context(), fleet.Change{Nodes: []fleet.Node{n}}); err != nil {
		t.Fatal(err)
	}
	addTable := func(tx *gorm.DB) error { return tx.Exec("CREATE TABLE next (id integer)").Error }
	if err := s.migrate(t.Context(), false, withNext(addTable)); err != nil {
		t.Fatal(err)
	}
	if !s.write.Migrator().HasTable("next") {
		t.Error("the migration did not run")
	}
	// The copy is what the older program can go back to.
	older := s.path + ".schema-" + lastOf(migrations())
	copied, err := Open(t.Context(), older, s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if w, err := copied.Load(t.Context()); err != nil || len(w.Nodes) != 1 || copied.write.Migrator().HasTable("next") {
		t.Errorf("the copy has nodes %v, %v", w.Nodes, err)
	}
	if info, err := os.Stat(older); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v, want mode 0600", info.Mode(), err)
	}
}

func lastOf(all []*gormigrate.Migration) string { return all[len(all)-1].ID }

func TestAFailedMigrationChangesNothing(t *testing.T) {
	s := openFresh(t)
	broken := func(tx *gorm.DB) error {
		if err := tx.Exec("DROP TABLE nodes").Error; err != nil {
			return err
		}
		return errors.New("no")
	}
	if err := s.migrate(t.Context(), false, withNext(broken)); err == nil {
		t.Fatal("no error")
	}
	if !s.write.Migrator().HasTable("nodes") {
		t.Error("half of the migration was kept")
	}
	if err := reopen(t, s); err != nil {
		t.Errorf("the old program: %v", err)
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	s := openFresh(t)
	if err := s.migrate(t.Context(), false, withNext(func(*gorm.DB) error { return nil })); err != nil {
		t.Fatal(err)
	}
	err := reopen(t, s)
	older := s.path + ".schema-" + lastOf(migrations())
	if fleet.CodeOf(err) != "E-DB-NEWER" || fleet.KindOf(err) != fleet.Conflict || !strings.Contains(fleet.HintOf(err), older) {
		t.Errorf("Open = %v, want E-DB-NEWER and what to do", err)
	}
}

func TestAnotherProgramsDatabaseIsRefused(t *testing.T) {
	s := openFresh(t)
	if err := s.write.Exec("DROP TABLE migrations").Error; err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, s); fleet.CodeOf(err) != "E-DB-FOREIGN" {
		t.Errorf("Open = %v, want E-DB-FOREIGN", err)
	}
}

func TestAnInterruptedFirstStartStartsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "provision.db")
	for _, name := range []string{path, path + ".keep"} { // made, and not yet written to
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheSchemaCanBeTakenBack(t *testing.T) {
	s := openFresh(t)
	for range migrations() {
		if err := gormigrate.New(s.write, migrateOptions(), migrations()).RollbackLast(); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := s.write.Migrator().GetTables()
	if err != nil || len(tables) != 1 || tables[0] != migrationTable {
		t.Errorf("tables %v, %v, want only %s", tables, err, migrationTable)
	}
}

func TestMigrationsAreInOrder(t *testing.T) {
	var ids []string
	for _, m := range migrations() {
		ids = append(ids, m.ID)
	}
	if !slices.IsSorted(ids) {
		t.Errorf("migrations %v", ids)
	}
}

// A transaction that is not synced before it is acknowledged is lost in a
// power cut, and no test of ours can cut the power.
func TestTransactionsAreSynced(t *testing.T) {
	s := openFresh(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := s.write.Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", pragma, got, err, want)
		}
	}
}

func TestReadersCannotWrite(t *testing.T) {
	s := openFresh(t)
	if err := s.read.Exec("DELETE FROM nodes").Error; err == nil {
		t.Error("a reader deleted nodes")
	}
}
