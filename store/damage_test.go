package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// used returns the path of a database that was in use and is closed now.
func used(t *testing.T) string {
	t.Helper()
	s, path := fresh(t)
	var nodes []fleet.Node
	var leases []fleet.Lease
	for i := range 200 {
		nodes, leases = append(nodes, node(i)), append(leases, lease(i))
	}
	save(t, s, fleet.Change{Site: site(), Nodes: nodes, Runs: []fleet.Run{run("prd-1", 3)}, Events: []fleet.Event{event(1)}})
	if err := s.SaveLeases(t.Context(), leases); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	return path
}

// everything opens a database and reads all of it.
func everything(t *testing.T, path string) error {
	t.Helper()
	s, err := store.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer closeStore(t, s)
	if _, err := s.Load(t.Context()); err != nil {
		return err
	}
	_, err = s.Leases(t.Context())
	return err
}

func TestADatabaseThatCannotBeBelievedIsRefused(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, path string)
		want  fleet.Code
	}{
		"one that is whole":                  {func(*testing.T, string) {}, ""},
		"one that is gone":                   {func(t *testing.T, path string) { must(t, os.Remove(path)) }, "E-DB-GONE"},
		"one that is empty":                  {func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, "E-DB-GONE"},
		"one that lost its keeper":           {func(t *testing.T, path string) { must(t, os.Remove(path+".keep")) }, ""},
		"one that is gone but for its log":   {onlyItsLog, "E-DB-GONE"},
		"one that was cut in a page":         {func(t *testing.T, path string) { must(t, os.Truncate(path, size(t, path)/2+99)) }, "E-DB-DAMAGED"},
		"one that was cut after a page":      {func(t *testing.T, path string) { must(t, os.Truncate(path, size(t, path)/8192*4096)) }, "E-DB-DAMAGED"},
		"one that was cut in its header":     {func(t *testing.T, path string) { must(t, os.Truncate(path, 10)) }, "E-DB-DAMAGED"},
		"one whose beginning is zeros":       {func(t *testing.T, path string) { overwrite(t, path, 0, make([]byte, 4096)) }, "E-DB-DAMAGED"},
		"one whose middle is zeros":          {func(t *testing.T, path string) { overwrite(t, path, size(t, path)/8192*4096, make([]byte, 4096)) }, "E-DB-DAMAGED"},
		"one that is text":                   {func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("hello, I am no database"), 0o600)) }, "E-DB-DAMAGED"},
		"one with a flipped bit in a node":   {func(t *testing.T, path string) { flip(t, path, "PowerEdge R650") }, "E-DB-DAMAGED"},
		"one with a flipped bit in a lease":  {func(t *testing.T, path string) { flip(t, path, "host-77") }, "E-DB-DAMAGED"},
		"one with a flipped bit in the site": {func(t *testing.T, path string) { flip(t, path, "dckhub.prd:5000") }, "E-DB-DAMAGED"},
		"one with a flipped bit in a run":    {func(t *testing.T, path string) { flip(t, path, `"Plan":"0123"`) }, "E-DB-DAMAGED"},
		"one that is a directory":            {func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o700)) }, "E-DB-ACCESS"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := used(t)
			tt.spoil(t, path)
			before := content(path)
			err := everything(t, path)
			if got := fleet.CodeOf(err); got != tt.want {
				t.Fatalf("got %v, want code %q", err, tt.want)
			}
			if err == nil {
				return
			}
			if hint := fleet.HintOf(err); hint == "" {
				t.Errorf("%v does not say what to do", err)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name the file", err)
			}
			if !bytes.Equal(before, content(path)) {
				t.Error("the evidence was changed")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(path string) []byte {
	raw, _ := os.ReadFile(path) // nil when it is gone
	return raw
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

func overwrite(t *testing.T, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(data, at)
	must(t, err)
	must(t, f.Close())
}

// flip changes one bit of the text wherever it is.
func flip(t *testing.T, path, text string) {
	t.Helper()
	raw := content(path)
	if !bytes.Contains(raw, []byte(text)) {
		t.Fatalf("the database does not contain %q", text)
	}
	other := []byte(text)
	other[len(other)-2] ^= 1
	must(t, os.WriteFile(path, bytes.ReplaceAll(raw, []byte(text), other), 0o600))
}

func onlyItsLog(t *testing.T, path string) {
	must(t, os.WriteFile(path+"-wal", []byte("something"), 0o600))
	must(t, os.Remove(path))
	must(t, os.Remove(path+".keep"))
}

func TestOnlyOneProvisionUsesADatabase(t *testing.T) {
	s, path := fresh(t)
	if err := everything(t, path); fleet.CodeOf(err) != "E-DB-BUSY" || fleet.HintOf(err) == "" {
		t.Errorf("the second Open: %v, want E-DB-BUSY", err)
	}
	save(t, s, fleet.Change{Nodes: []fleet.Node{node(1)}})
	closeStore(t, s)
	if err := everything(t, path); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

func TestNobodyElseMayReadTheDatabase(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s, path := fresh(t)
	save(t, s, fleet.Change{Nodes: []fleet.Node{node(1)}})
	files, err := filepath.Glob(path + "*")
	must(t, err)
	if len(files) < 3 {
		t.Fatalf("files %v, want the database, its log and its keeper", files)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", f, info.Mode().Perm())
		}
	}
}

func TestAPathMayHaveAnyCharacter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20&_pragma=x", "provision.db")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	s := open(t, path)
	save(t, s, fleet.Change{Nodes: []fleet.Node{node(1)}})
	closeStore(t, s)
	if size(t, path) == 0 {
		t.Error("the database is somewhere else")
	}
	if err := everything(t, path); err != nil {
		t.Error(err)
	}
}

func TestAMissingDirectoryIsNamed(t *testing.T) {
	err := everything(t, filepath.Join(t.TempDir(), "none", "provision.db"))
	if fleet.CodeOf(err) != "E-DB-ACCESS" || fleet.HintOf(err) == "" {
		t.Errorf("Open = %v, want E-DB-ACCESS and what to do", err)
	}
}

// A file system that is full must cost nothing but what was not acknowledged,
// and be over as soon as there is room.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Run("nodes", func(t *testing.T) {
		fillTheDisk(t, func(i int) fleet.Change { return fleet.Change{Nodes: []fleet.Node{node(i)}} }, func(w fleet.World) int { return len(w.Nodes) })
	})
	t.Run("events", func(t *testing.T) {
		change := func(i int) (c fleet.Change) {
			for n := range int64(10) {
				c.Events = append(c.Events, event(10*int64(i)+n+1))
			}
			return c
		}
		fillTheDisk(t, change, func(w fleet.World) int { return int(w.LastSeq) / 10 })
	})
}

func fillTheDisk(t *testing.T, change func(i int) fleet.Change, count func(fleet.World) int) {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a small file system (the tests run as root): %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	path := filepath.Join(dir, "provision.db")
	s := open(t, path)
	must(t, os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 800<<10), 0o600))
	stored := 0
	for ; stored < 5000; stored++ {
		err := s.Save(t.Context(), change(stored))
		if err == nil {
			continue
		}
		if code := fleet.CodeOf(err); (code != "E-DB-FULL" && code != "E-DB-IO") || fleet.HintOf(err) == "" {
			t.Errorf("Save = %v, want E-DB-FULL", err)
		}
		break
	}
	if stored == 5000 {
		t.Fatal("the disk never filled up")
	}
	if err := s.SaveLeases(t.Context(), []fleet.Lease{lease(1)}); err == nil {
		t.Log("a lease still fitted")
	}
	if got := count(load(t, s)); got != stored {
		t.Errorf("while full: %d are there, want %d", got, stored)
	}
	must(t, os.Remove(filepath.Join(dir, "ballast")))
	save(t, s, change(stored))
	closeStore(t, s)
	s = open(t, path)
	defer closeStore(t, s)
	if got := count(load(t, s)); got != stored+1 {
		t.Errorf("afterwards: %d are there, want %d", got, stored+1)
	}
}
