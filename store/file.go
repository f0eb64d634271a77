package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rackstage/provision/fleet"
)

// A marker is a small file beside the database. Its text says that there is
// a database, so that a missing one is noticed, and a lock on it keeps a
// second server off. (A lock on the database itself would not do: SQLite's
// own locks are lost as soon as the process closes any descriptor of it.)
type marker struct {
	file *os.File
	kept bool // there was a database when we came
}

const markerText = `provision keeps its database beside this file. Without this file a missing
database would look like a first start. Remove it only to begin anew.
`

func openMarker(db string) (*marker, error) {
	name := db + ".keep"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, noAccess(db, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-DB-BUSY", Op: "open database", On: db,
			Hint: "stop the other provision; find it with: fuser " + name, Err: errors.New("another provision uses it"),
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, errors.Join(noAccess(db, err), f.Close())
	}
	return &marker{file: f, kept: len(text) > 0}, nil
}

// keep notes, durably, that there is a database now.
func (m *marker) keep() error {
	if m.kept {
		return nil
	}
	if _, err := m.file.WriteAt([]byte(markerText), 0); err != nil {
		return fmt.Errorf("write %s: %w", m.file.Name(), err)
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", m.file.Name(), err)
	}
	m.kept = true
	return syncDir(filepath.Dir(m.file.Name()))
}

// close gives the lock back.
func (m *marker) close() error {
	if err := m.file.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// checkFile looks at the file before SQLite does, because SQLite takes an
// empty file for a new database. It reports whether this is a first start,
// and sees to it that nobody else can read the file.
func checkFile(path string, kept bool) (fresh bool, err error) {
	head, err := readHead(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, noAccess(path, err)
	}
	if len(head) == 0 {
		return true, firstStart(path, kept)
	}
	if !bytes.Equal(head, []byte("SQLite format 3\x00")) {
		return false, &fleet.Error{
			Kind: fleet.Internal, Code: "E-DB-DAMAGED", Op: "open database", On: path,
			Hint: restoreHint, Err: errors.New("it is not an SQLite file, or its beginning was overwritten"),
		}
	}
	return false, os.Chmod(path, 0o600)
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// firstStart creates the file, unless there are traces of an earlier one. A
// write-ahead log is such a trace: SQLite makes none before the database has
// its first page.
func firstStart(path string, kept bool) error {
	var trace string
	if _, err := os.Stat(path + "-wal"); err == nil {
		trace = path + "-wal"
	}
	if kept {
		trace = path + ".keep"
	}
	if trace != "" {
		return &fleet.Error{
			Kind: fleet.Internal, Code: "E-DB-GONE", Op: "open database", On: path,
			Hint: strings.Join([]string{
				"mount the file system that it is on, or put a backup back: docs/backup.md",
				"(to begin anew and forget every node and lease, remove " + trace + ")",
			}, " "),
			Err: errors.New("it is missing or empty, but " + filepath.Base(trace) + " says that there was one"),
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite gives its log the same mode
	if err != nil {
		return noAccess(path, err)
	}
	return errors.Join(f.Chmod(0o600), f.Close(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func noAccess(path string, err error) error {
	return &fleet.Error{
		Kind: fleet.Internal, Code: "E-DB-ACCESS", Op: "open database", On: path,
		Hint: "create the state directory, and let the user that runs provision write to it", Err: err,
	}
}
