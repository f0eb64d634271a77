package bmc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A statusError is what a Redfish service answers when it does not do what it
// was asked.
type statusError struct {
	status  int
	message string // of its own, cleaned
	ids     string // of its messages
	account string // path of the one whose password has to be changed, where it says so
}

// Error says what the service said.
func (e *statusError) Error() string {
	text := fmt.Sprintf("%d %s", e.status, strings.ToLower(http.StatusText(e.status)))
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// newStatusError reads an answer; quote is what is shown of a text.
func newStatusError(status int, body []byte, quote func(string) string) *statusError {
	var said struct {
		Error struct {
			Message  string    `json:"message"`
			Extended []message `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	e := &statusError{status: status}
	if json.Unmarshal(body, &said) != nil { // many answer with a page of HTML
		return e
	}
	e.message = said.Error.Message
	for _, x := range said.Error.Extended[:min(len(said.Error.Extended), mostMessages)] {
		e.ids += " " + x.ID
		if path, yes := x.wantsChange(); yes {
			e.account = path
		}
		if x.Message != "" {
			e.message = x.Message
		}
	}
	e.message = quote(e.message)
	return e
}

// A message is one of a registry, as the specification has it.
type message struct {
	ID      string `json:"MessageId"`
	Message string `json:"Message"`
	Args    []text `json:"MessageArgs"`
}

const (
	mostMessages   = 8
	changeRequired = "PasswordChangeRequired" // of the registry Base
)

// wantsChange reports whether a password has to be changed before anything
// else, and the path of the account that it is the password of: "" when that is
// not said.
func (m message) wantsChange() (account string, yes bool) {
	if !strings.HasSuffix(m.ID, "."+changeRequired) {
		return "", false
	}
	if len(m.Args) > 0 {
		account = localPath(string(m.Args[0]))
	}
	return account, true
}

// Is gives the status its name in this package.
func (e *statusError) Is(target error) bool { return target == e.name() }

func (e *statusError) name() error {
	switch {
	case strings.Contains(e.ids, changeRequired):
		return ErrMustChange
	case strings.Contains(e.ids, "SessionLimitExceeded") || strings.Contains(e.ids, "RAC0218"):
		return ErrSessions
	case strings.Contains(e.ids, "InsufficientPrivilege"):
		return ErrDenied
	}
	switch e.status {
	case http.StatusUnauthorized:
		return ErrLogin
	case http.StatusForbidden:
		return ErrDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return ErrUnsupported
	}
	return ErrRejected
}

// sessionError reads what a service answers to a login. Its Forbidden and Bad
// Request are about the account, and its overload about sessions.
func sessionError(err error) error {
	e, ok := errors.AsType[*statusError](err)
	if !ok || errors.Is(e.name(), ErrSessions) || errors.Is(err, ErrMustChange) {
		return err
	}
	switch e.status {
	case http.StatusForbidden, http.StatusBadRequest, http.StatusUnauthorized:
		return fmt.Errorf("%w (%v)", ErrLogin, err)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return fmt.Errorf("%w (%v)", ErrSessions, err)
	}
	return err
}
