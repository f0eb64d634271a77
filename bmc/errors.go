package bmc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// What can be wrong with a BMC. Every error of this package that is not about
// its caller is one of these, for errors.Is.
var (
	ErrNoAnswer    = errors.New("the BMC does not answer")
	ErrHangs       = errors.New("the BMC takes the connection and then says nothing")
	ErrSlow        = errors.New("the BMC answers too slowly")
	ErrNoRoute     = errors.New("there is no way to the BMC's address")
	ErrClosed      = errors.New("nothing listens at the BMC's address and port")
	ErrLogin       = errors.New("the BMC does not know this user name with this password")
	ErrDenied      = errors.New("the BMC's user may not do that")
	ErrMustChange  = errors.New("the BMC does nothing before its user's password is changed")
	ErrCipher      = errors.New("the BMC offers no cipher suite that we accept")
	ErrSessions    = errors.New("the BMC has no session left")
	ErrRejected    = errors.New("the BMC refuses the command")
	ErrUnsupported = errors.New("the BMC cannot do that")
	ErrNoMedia     = fmt.Errorf("%w: it has no virtual CD drive", ErrUnsupported)
	ErrNoUser      = fmt.Errorf("%w: it has no such user", ErrUnsupported)
	ErrBusy        = errors.New("the BMC is still busy with something else of ours")
	ErrNoEffect    = errors.New("the BMC said yes, and nothing happened")
	ErrNeedsOff    = errors.New("the BMC takes a boot device only while the machine is off")
	ErrPin         = errors.New("the BMC shows another TLS certificate than before")
	ErrNotProbed   = errors.New("the BMC's TLS certificate was never looked at")
	ErrUnclear     = errors.New("it is not known whether the BMC has begun to install the image")
	ErrShape       = errors.New("the BMC does not take such a password")
	ErrGaveWay     = errors.New("somebody else had to talk to the BMC")
	ErrSeveral     = errors.New("several machines are behind this BMC, and none is known to be this one")

	ErrNoConsole    = errors.New("the BMC gives no serial console over LAN")
	ErrConsoleRight = errors.New("the BMC's user may not open the console")
	ErrConsoleHeld  = errors.New("somebody else has the console open")
	ErrConsoleTaken = errors.New("somebody else took the console")
	ErrHostKey      = errors.New("the BMC shows another SSH host key than before")
)

// advice is what people get for each of them. What to do stands in the table
// of diagnoses.
var advice = []struct {
	err  error
	kind fleet.Kind
	code fleet.Code
}{
	{ErrSlow, fleet.Unreachable, fleet.CodeBMCSlow},
	{ErrHangs, fleet.Unreachable, fleet.CodeBMCHangs},
	{ErrNoAnswer, fleet.Unreachable, fleet.CodeBMCTimeout},
	{ErrNoRoute, fleet.Unreachable, fleet.CodeBMCRoute},
	{ErrClosed, fleet.Unreachable, fleet.CodeBMCClosed},
	{ErrLogin, fleet.Denied, fleet.CodeBMCLogin},
	{ErrMustChange, fleet.Conflict, fleet.CodeBMCMustChange},
	{ErrDenied, fleet.Denied, fleet.CodeBMCDenied},
	{ErrCipher, fleet.Unreachable, fleet.CodeBMCCipher},
	{ErrSessions, fleet.Unreachable, fleet.CodeBMCSessions},
	{ErrBusy, fleet.Conflict, fleet.CodeBMCBusy},
	{ErrGaveWay, fleet.Conflict, fleet.CodeBMCBusy},
	{ErrNoEffect, fleet.Conflict, fleet.CodeBMCNoEffect},
	{ErrNeedsOff, fleet.Conflict, fleet.CodeBMCNeedsOff},
	{ErrPin, fleet.Denied, fleet.CodeBMCPin},
	{ErrNotProbed, fleet.Conflict, fleet.CodeBMCNotProbed},
	{ErrSeveral, fleet.Conflict, fleet.CodeBMCSeveral},
	{ErrUnclear, fleet.Conflict, fleet.CodeBMCUnclear},
	{ErrShape, fleet.Conflict, fleet.CodeBMCShape},
	{ErrNoMedia, fleet.Conflict, fleet.CodeMediaNone},
	{ErrUnsupported, fleet.Conflict, fleet.CodeBMCUnsupported},
	{ErrRejected, fleet.Unreachable, fleet.CodeBMCRejected},
	{ErrNoConsole, fleet.Unreachable, fleet.CodeSOLDisabled},
	{ErrConsoleRight, fleet.Denied, fleet.CodeSOLDenied},
	{ErrConsoleHeld, fleet.Conflict, fleet.CodeSOLHeld},
	{ErrConsoleTaken, fleet.Conflict, fleet.CodeSOLTaken},
	{ErrHostKey, fleet.Denied, fleet.CodeHostKey},
}

// trouble makes of a failure what a person can act on.
func trouble(op string, t Target, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) { // the caller's own
		err = fmt.Errorf("%w (%v)", ErrNoAnswer, err)
	}
	err = t.legible(err)
	check := "check the BMC with: provision power status " + t.name()
	e := &fleet.Error{
		Kind: fleet.Unreachable, Op: op, On: "node " + t.name(), Hint: check,
		Err: fmt.Errorf("BMC %s: %w", t.Address, err),
	}
	for _, a := range advice {
		if errors.Is(err, a.err) {
			e.Kind, e.Code = a.kind, a.code
			e.Hint = fleet.Diagnose(string(a.code)).FixFor(t.name()) + "; " + check
			return e
		}
	}
	return e
}

// A legible error says no more than a person reads, nothing that a terminal
// obeys, and nothing secret: BMCs are quoted in errors.
type legible struct {
	error
	target Target // whose secrets are meant
	text   func() string
}

const longestTrouble = 480

// legible is for every error of a conversation before anybody keeps it or shows it.
func (t Target) legible(err error) error {
	if err == nil {
		return nil
	}
	e := &legible{error: err, target: t}
	e.text = sync.OnceValue(e.read)
	return e
}

// Error is the error's text, cleaned, veiled and cut.
func (e *legible) Error() string { return e.text() }

func (e *legible) read() string {
	said := e.error.Error()
	said = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, strings.ToValidUTF8(said[:min(len(said), longestSaid)], ""))
	said = e.target.newVeil().around(said)
	return strings.ToValidUTF8(said[:min(len(said), longestTrouble)], "")
}

// GoString says no more than Error.
func (e *legible) GoString() string { return e.Error() }

// around veils what stands around our own sentences: what would be missing
// in them tells a password that is one of their words.
func (v *veil) around(text string) string {
	var b strings.Builder
	for text != "" {
		at, own := len(text), ""
		for _, a := range advice {
			sentence := a.err.Error()
			if i := strings.Index(text, sentence); i >= 0 && (i < at || i == at && len(sentence) > len(own)) {
				at, own = i, sentence
			}
		}
		b.WriteString(v.over(text[:at]) + own)
		text = text[at+len(own):]
	}
	return b.String()
}

// Unwrap is the error.
func (e *legible) Unwrap() error { return e.error }

// invalid is the caller's mistake.
func invalid(op string, t Target, err error) error {
	return &fleet.Error{
		Kind: fleet.Invalid, Op: op, On: "node " + t.name(), Err: fmt.Errorf("BMC %s: %w", t.Address, err),
		Hint: "correct the BMC's address or account of " + t.name(),
	}
}

// classify gives a failure of the network or of go-ipmi its name. What the
// library says is kept as text only: it is no promise of ours.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return err
		}
	}
	return fmt.Errorf("%w (%v)", nameOf(err), err)
}

func nameOf(err error) error {
	if status, ok := errors.AsType[*types.RmcpStatusError](err); ok {
		return nameOfStatus(status.StatusCode())
	}
	if code, ok := errors.AsType[*types.ResponseError](err); ok {
		return nameOfCompletion(code.CompletionCode())
	}
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, client.ErrRAKPAuthentication):
		return ErrLogin
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrClosed
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES):
		return ErrNoRoute
	}
	// A deadline, or what go-ipmi has no error value for: it then waited in
	// vain for an answer that it could read.
	return ErrNoAnswer
}

// nameOfStatus reads the status of an RMCP+ message, IPMI 2.0 table 13-15.
func nameOfStatus(s types.RmcpStatusCode) error {
	switch s {
	case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole:
		return ErrSessions
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeNoCipherSuiteMatch:
		return ErrCipher
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidNameLength, types.RmcpStatusCodeInvalidIntegrityCheckValue:
		return ErrLogin
	case types.RmcpStatusCodeUnauthorizedRoleOfPriLevel, types.RmcpStatusCodeInvalidRole:
		return ErrDenied
	default:
		return ErrRejected
	}
}

// Completion codes, IPMI 2.0 table 5-2.
const (
	codeNoPrivilege  = 0xd4
	codeTimeout      = 0xc3
	codeOutOfRange   = 0xc9
	codeInvalidField = 0xcc
)

// Completion codes of Activate Payload, IPMI 2.0 table 24-2. Deactivate Payload
// says with the first one that there is nothing to deactivate.
const (
	codeActive          = 0x80
	codePayloadDisabled = 0x81
	codeActivations     = 0x82
	codeUnknownCommand  = 0xc1
)

// completion is the BMC's word on a command; 0 when it said nothing else.
func completion(err error) types.CompletionCode {
	code, ok := errors.AsType[*types.ResponseError](err)
	if !ok {
		return 0
	}
	return code.CompletionCode()
}

// nameOfActivation translates what Activate Payload alone says so.
func nameOfActivation(err error) error {
	switch completion(err) {
	case codePayloadDisabled, codeUnknownCommand:
		return fmt.Errorf("%w (%v)", ErrNoConsole, err)
	case codeNoPrivilege:
		return fmt.Errorf("%w (%v)", ErrConsoleRight, err)
	case codeActive, codeActivations:
		return fmt.Errorf("%w (%v)", ErrConsoleHeld, err)
	default:
		return err
	}
}

// nameOfInterrupt translates what a BMC says that has no diagnostic interrupt,
// which IPMI 2.0 leaves to it (§28.3): it does not know the number of the order.
func nameOfInterrupt(err error) error {
	switch completion(err) {
	case codeUnknownCommand, codeOutOfRange, codeInvalidField:
		return fmt.Errorf("%w: power %s (%v)", ErrUnsupported, diagnose, err)
	default:
		return err
	}
}

func nameOfCompletion(code types.CompletionCode) error {
	switch code {
	case codeNoPrivilege:
		return ErrDenied
	case codeTimeout:
		return ErrNoAnswer
	default:
		return ErrRejected
	}
}
