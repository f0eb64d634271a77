package bmc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A breaker leaves a BMC alone that does not answer, and one that does not know
// our account: waiting for the first costs ten seconds each time, and the second
// locks the account when it is tried too often. A trial is let through from
// time to time. Probes, which people ask for, are let through always.
type breaker struct {
	mu      sync.Mutex
	silent  int // operations in a row that found nobody
	refused int // operations in a row whose account was not known
	account [sha256.Size]byte
	until   time.Time
	last    error
}

const (
	mostSilent   = 3 // operations, before a BMC is left alone
	mostLogins   = 2 // likewise; few BMCs lock an account after three
	firstRest    = 30 * time.Second
	longestRest  = 5 * time.Minute
	refusedRest  = 5 * time.Minute
	givenUpAfter = "; it was asked so often that it is left alone for another %s"
)

// accountOf tells accounts apart without keeping them.
func accountOf(t Target) [sha256.Size]byte {
	return sha256.Sum256([]byte(t.Username + "\x00" + string(t.Password)))
}

// allow reports why a BMC is left alone, or nil. Who is let through while the
// breaker is open is the trial: others wait for what becomes of it.
func (b *breaker) allow(t Target, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.silent < mostSilent && (b.refused < mostLogins || b.account != accountOf(t)) {
		return nil
	}
	if left := b.until.Sub(now); left > 0 {
		return fmt.Errorf("%w"+givenUpAfter, b.last, left.Round(time.Second))
	}
	b.until = now.Add(firstRest)
	return nil
}

// silent reports whether nobody was found.
func silent(err error) bool {
	return errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrHangs) || errors.Is(err, ErrNoRoute) || errors.Is(err, ErrClosed)
}

// learn is told what became of an operation.
func (b *breaker) learn(t Target, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case silent(err):
		b.silent++
		b.last = err
		if over := b.silent - mostSilent; over >= 0 {
			b.until = now.Add(min(firstRest<<min(over, 8), longestRest))
		}
	case errors.Is(err, ErrLogin):
		if account := accountOf(t); account != b.account {
			b.account, b.refused = account, 0
		}
		b.silent = 0
		b.refused++
		b.last = err
		b.until = now.Add(refusedRest)
	case errors.Is(err, ErrBusy) || errors.Is(err, ErrGaveWay) || errors.Is(err, context.Canceled): // of ours
	default:
		b.silent, b.refused = 0, 0
	}
}
