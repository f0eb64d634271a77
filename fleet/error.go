package fleet

import (
	"errors"
	"strings"
)

// A Kind says what sort of trouble an [Error] is, and so which status code,
// exit code and colour it gets.
type Kind string

// The kinds of trouble.
const (
	Invalid     Kind = "invalid"     // the input is wrong; asking again will not help
	NotFound    Kind = "not_found"   // the thing named does not exist
	Conflict    Kind = "conflict"    // the thing is in a state that does not allow this
	Denied      Kind = "denied"      // who asks may not have it
	Unreachable Kind = "unreachable" // the other side did not answer, or refused
	Internal    Kind = "internal"    // our own fault
)

// A Code is the stable name of a failure, such as "E-DISK-SMALL". Codes are
// part of the API and never change their meaning.
type Code string

// An Error is trouble that a person can act on.
type Error struct {
	Kind Kind   // what sort of trouble
	Code Code   // stable name; may be empty
	Op   string // what was tried: "power on"
	On   string // what it was tried on: "node 52:54:00:12:34:56"
	Hint string // what to do next, in the imperative; may be empty
	Err  error  // the cause; may be nil
}

// Error returns "op on: cause", without the hint.
func (e *Error) Error() string {
	var parts []string
	if op := strings.TrimSpace(e.Op + " " + e.On); op != "" {
		parts = append(parts, op)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	if len(parts) == 0 {
		return string(e.Kind)
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [Error] in err's chain, and Internal
// when there is none. It returns "" for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// CodeOf returns the first code in err's chain, or "".
func CodeOf(err error) Code {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := errors.AsType[*Error](err); ok && e.Code != "" {
			return e.Code
		}
	}
	return ""
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := errors.AsType[*Error](err); ok && e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}

// Invalidf returns an Invalid error about a thing, with a hint.
func Invalidf(on, hint string, err error) *Error {
	return &Error{Kind: Invalid, On: on, Hint: hint, Err: err}
}
