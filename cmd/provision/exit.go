package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// The exit codes, as docs and scripts rely on them.
const (
	exitOK          = 0   // converged, or the command succeeded
	exitFailed      = 1   // at least one node failed, or another error
	exitUsage       = 2   // unknown flag, bad query, a name that does not exist
	exitUnreachable = 3   // no server answers
	exitDenied      = 4   // not signed in, or not allowed
	exitUnapproved  = 5   // confirmation required or declined
	exitHeld        = 6   // not converged: changes are held for approval
	exitConflict    = 7   // another run, stale plan
	exitTimeout     = 8   // timed out; the run continues
	exitInterrupted = 130 // Ctrl-C
)

const exitCodesHelp = `Exit codes: 0 done or converged, 1 a node failed or another error, 2 usage,
3 no server, 4 not allowed, 5 confirmation required or declined, 6 changes are
held for approval, 7 conflict, 8 timed out (the run continues), 130 interrupted.`

// An exitError ends the program with a code of its own. Without a cause
// everything has been said already.
type exitError struct {
	code int
	hint string
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exit ends the program with a code and without a word.
func exit(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// usage marks an error as one of the command line.
func usage(err error) error { return &exitError{code: exitUsage, err: err} }

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// exitCode turns an error into an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return exitOfStatus(p.Status)
	}
	if isUnreachable(err) {
		return exitUnreachable
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	switch fleet.KindOf(err) {
	case fleet.Invalid, fleet.NotFound:
		return exitUsage
	case fleet.Conflict:
		return exitConflict
	case fleet.Denied:
		return exitDenied
	default: // Unreachable is about a machine here, not about our server
		return exitFailed
	}
}

func exitOfStatus(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitDenied
	case http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		return exitUsage
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return exitConflict
	default:
		return exitFailed
	}
}

// report tells a person what went wrong and what to do next.
func (a *app) report(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	if e, ok := errors.AsType[*exitError](err); ok && e.err == nil {
		return
	}
	fmt.Fprintf(a.stderr, "error: %s\n", printable(strings.TrimRight(err.Error(), "\n")))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(a.stderr, "  hint: %s\n", printable(hint))
	}
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*exitError](err); ok && e.hint != "" {
		return e.hint
	}
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Hint != "" {
		return p.Hint
	}
	return fleet.HintOf(err)
}

// printable takes out of a text what would move a terminal's cursor: parts of
// it were said by machines. Line ends stay.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r < 0x20, r == 0x7f, r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		default:
			return r
		}
	}, s)
}
