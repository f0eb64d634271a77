package sqlite3_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/store/sqlite3"
)

const table = "CREATE TABLE things (n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"

func openFresh(t *testing.T) *sqlite3.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "things.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := sqlite3.Open(path, "PRAGMA journal_mode = WAL", table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { noError(t, c.Close()) })
	return c
}

func prepare(t *testing.T, c *sqlite3.Conn, query string) *sqlite3.Stmt {
	t.Helper()
	s, err := c.Prepare(query)
	noError(t, err)
	t.Cleanup(s.Close)
	return s
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func codeOf(err error) int {
	if e, ok := errors.AsType[*sqlite3.Error](err); ok {
		return e.Code()
	}
	return 0
}

func TestWhatAStatementStoresIsReadBack(t *testing.T) {
	c := openFresh(t)
	add := prepare(t, c, "INSERT INTO things (n, name) VALUES (?, ?)")
	long := strings.Repeat("long", 1000)
	want := map[int64]string{-1: "", 1: "one", 2: long, 3: "zero \x00 inside", 1 << 40: "after the long one"}
	for n, name := range want {
		add.SetInt(1, n)
		add.SetText(2, []byte(name))
		noError(t, add.Run())
		if c.Changes() != 1 {
			t.Errorf("%d rows changed, want 1", c.Changes())
		}
	}
	all := prepare(t, c, "SELECT n, name FROM things")
	for range 2 { // a statement can be run again
		seen := 0
		for {
			more, err := all.Step()
			noError(t, err)
			if !more {
				break
			}
			if got := string(all.Text(1)); got != want[all.Int(0)] {
				t.Errorf("%d has %q, want %q", all.Int(0), got, want[all.Int(0)])
			}
			seen++
		}
		all.Reset()
		if seen != len(want) {
			t.Errorf("%d rows, want %d", seen, len(want))
		}
	}
}

// A parameter that is set to what it is already costs nothing, and a buffer
// that its owner uses again is not looked at later.
func TestAParameterKeepsItsValue(t *testing.T) {
	c := openFresh(t)
	add := prepare(t, c, "INSERT INTO things (n, name) VALUES (?, ? || ?1)")
	name := []byte("thing ")
	add.SetText(2, name)
	copy(name, "XXXXXX")
	for n := range int64(3) {
		add.SetInt(1, n)
		noError(t, add.Run())
	}
	last := prepare(t, c, "SELECT name FROM things ORDER BY n DESC")
	if _, err := last.Step(); err != nil || !bytes.Equal(last.Text(0), []byte("thing 2")) {
		t.Errorf("the last is %q, %v", last.Text(0), err)
	}
}

func TestAConstraintIsAnErrorWithItsCode(t *testing.T) {
	c := openFresh(t)
	add := prepare(t, c, "INSERT INTO things (n, name) VALUES (?, ?)")
	set := func(n int64, name string) error {
		add.SetInt(1, n)
		add.SetText(2, []byte(name))
		return add.Run()
	}
	noError(t, set(1, "one"))
	const primary, unique = 1555, 2067
	if err := set(1, "two"); codeOf(err) != primary {
		t.Errorf("the same number: %v, want code %d", err, primary)
	}
	if err := set(2, "one"); codeOf(err) != unique || !strings.Contains(err.Error(), "things.name") {
		t.Errorf("the same name: %v, want code %d and the column", err, unique)
	}
	noError(t, set(2, "two")) // and it goes on
}

func TestAMistakeIsAnError(t *testing.T) {
	c := openFresh(t)
	if _, err := c.Prepare("SELEC 1"); err == nil {
		t.Error("nonsense was compiled")
	}
	if err := c.Exec("COMMIT"); err == nil {
		t.Error("a transaction that was never begun is stored")
	}
	s := prepare(t, c, "SELECT ?")
	s.SetInt(2, 1)
	if _, err := s.Step(); err == nil {
		t.Error("a parameter was set that there is not")
	}
	if _, err := sqlite3.Open(filepath.Join(t.TempDir(), "none.db")); err == nil {
		t.Error("a database that there is not was opened")
	}
	if _, err := sqlite3.Open(filepath.Join(t.TempDir(), "nowhere", "x"), "PRAGMA x"); codeOf(err) != 14 {
		t.Errorf("%v, want code 14", err)
	}
}
