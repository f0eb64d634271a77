package store

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// Result codes of SQLite (https://www.sqlite.org/rescode.html). The low byte
// is the primary code; the engine's own list is in a package that we do not
// want to depend on for seven numbers.
const (
	codeBusy      = 5
	codeReadOnly  = 8
	codeIO        = 10
	codeCorrupt   = 11
	codeFull      = 13
	codeCantOpen  = 14
	codeNotADB    = 26
	codeUnique    = 2067
	codePrimary   = 1555
	codeNoRef     = 787
	primaryOfCode = 0xff
)

const fullHint = "make room on the file system; nothing was lost, and what was not stored was not acknowledged"

const restoreHint = "stop here and put the last backup back, the database and all of its -leases-* files as they were together: docs/backup.md"

// tooOld is the error for a journal that the database does not know of.
func (s *Store) tooOld(journal string, err error) error {
	return &fleet.Error{
		Kind: fleet.Internal, Code: "E-DB-DAMAGED", Op: "read database", On: s.path,
		Hint: "if an older copy of the database was put in place, put back the -leases-* files that were copied with it, and move " + journal + " elsewhere: the leases in it are lost then (docs/backup.md)",
		Err:  fmt.Errorf("it is older than its journal %s: %w", journal, err),
	}
}

// damaged is the error for a file that cannot be believed.
func (s *Store) damaged(err error) error {
	return &fleet.Error{
		Kind: fleet.Internal, Code: "E-DB-DAMAGED", Op: "read database", On: s.path,
		Hint: restoreHint, Err: fmt.Errorf("it is damaged: %w", err),
	}
}

// unreadable is fault for the time when the file is opened.
func (s *Store) unreadable(err error) error { return s.fault("open database", err) }

// fault says in words for people what SQLite did not like.
func (s *Store) fault(op string, err error) error {
	if err == nil || fleet.CodeOf(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &fleet.Error{Kind: fleet.Internal, Code: "E-DB", Op: op, On: s.path, Err: err}
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return taken(op, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Code, e.Hint = "E-DB-FULL", fullHint
		return e
	}
	sqliteErr, ok := errors.AsType[sqliteError](err)
	if !ok {
		return e
	}
	switch code := sqliteErr.Code(); {
	case isTaken(err):
		return taken(op, err)
	case code == codeNoRef:
		e.Kind, e.Code = fleet.NotFound, "E-DB-REFERENCE"
	case code&primaryOfCode == codeFull:
		e.Code, e.Hint = "E-DB-FULL", fullHint
	case code&primaryOfCode == codeCorrupt, code&primaryOfCode == codeNotADB:
		return s.damaged(err)
	case code&primaryOfCode == codeReadOnly, code&primaryOfCode == codeCantOpen:
		e.Code, e.Hint = "E-DB-ACCESS", "let the user that runs provision write to this directory"
	case code&primaryOfCode == codeIO:
		e.Code, e.Hint = "E-DB-IO", "look at the disk: dmesg, smartctl"
	case code&primaryOfCode == codeBusy:
		e.Code, e.Hint = "E-DB-BUSY", "another program holds the database; find it with: fuser "+s.path
	}
	return e
}

// A sqliteError is what SQLite said, to the driver or to package sqlite3.
type sqliteError interface {
	error
	Code() int
}

// isTaken reports whether a uniqueness constraint forbade something.
func isTaken(err error) bool {
	e, ok := errors.AsType[sqliteError](err)
	return ok && (e.Code() == codeUnique || e.Code() == codePrimary)
}

func taken(op string, err error) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: "E-TAKEN", Op: op, Err: err}
}
