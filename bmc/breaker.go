package bmc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A breaker leaves a BMC alone that does not answer, and one that does not know
// our account: waiting for the first costs ten seconds each time, and the second
// locks the account when it is tried too often. A trial is let through from
// time to time. Who is asked by a person to probe is let through always.
type breaker struct {
	mu     sync.Mutex
	silent int // operations in a row that found nobody
	until  time.Time
	last   error
	users  map[user]*refusals // BMCs count per user, whatever the password
}

// refusals are the logins of one user that a BMC has refused since the last one
// that it took.
type refusals struct {
	count int
	last  error
	tried map[secret]trial // that count: each again after a rest only
}

// A secret tells passwords apart without keeping them.
type secret [sha256.Size]byte

// A trial is a password that was refused, or is being tried.
type trial struct {
	until time.Time // it is not tried again before
	open  bool      // nobody knows yet what becomes of it
}

const (
	mostSilent   = 3 // operations, before a BMC is left alone
	mostLogins   = 2 // that one user is refused; few BMCs lock an account after three
	firstRest    = 30 * time.Second
	longestRest  = 5 * time.Minute
	refusedRest  = 5 * time.Minute
	givenUpAfter = "; it was asked so often that it is left alone for another %s"
)

// A user is one of a BMC. Who signs in to its other services is not known by that to
// its shell, which a password that is wrong there never comes to.
type user struct {
	name  string
	shell bool
}

func userOf(t Target) user { return user{t.Username, t.shell} }

// secretOf is a password where it is used: there are BMCs whose Redfish has users
// of its own.
func secretOf(t Target) secret {
	service := "web"
	if t.Driver == fleet.DriverIPMI || t.Driver == fleet.DriverIPMITool {
		service = "ipmi"
	}
	return sha256.Sum256([]byte(service + "\x00" + string(t.Password)))
}

// allow reports why a BMC is left alone, or nil. Who is let through while the
// breaker is open is the trial: others wait for what becomes of it, which who is
// let through says by untried at the latest. A password that was not refused lately
// may be tried, once: it may be the right one.
func (b *breaker) allow(t Target, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.insist {
		return nil
	}
	if b.silent >= mostSilent {
		if left := b.until.Sub(now); left > 0 {
			return fmt.Errorf("%w"+givenUpAfter, b.last, left.Round(time.Second))
		}
	}
	if err := b.users[userOf(t)].allow(secretOf(t), now); err != nil {
		return err
	}
	if b.silent >= mostSilent {
		b.until = now.Add(firstRest)
	}
	return nil
}

func (r *refusals) allow(s secret, now time.Time) error {
	if r == nil || r.count < mostLogins {
		return nil
	}
	before := r.tried[s]
	left := before.until.Sub(now)
	switch {
	case left > 0 && before.open:
		return fmt.Errorf("%w: this password is being tried", ErrBusy)
	case left > 0:
		return fmt.Errorf("%w"+givenUpAfter, r.last, left.Round(time.Second))
	}
	r.tried[s] = trial{until: now.Add(firstRest), open: true}
	return nil
}

// silent reports whether nobody was found.
func silent(err error) bool {
	return errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrHangs) || errors.Is(err, ErrNoRoute) || errors.Is(err, ErrClosed)
}

// learn is told what became of an operation.
func (b *breaker) learn(err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case silent(err):
		b.silent++
		b.last = err
		if over := b.silent - mostSilent; over >= 0 {
			b.until = now.Add(min(firstRest<<min(over, 8), longestRest))
		}
	case errors.Is(err, ErrBusy) || errors.Is(err, ErrGaveWay) || errors.Is(err, context.Canceled): // of ours
	default:
		b.silent = 0
	}
}

// still is allow for who was let through a while ago, and has waited for others
// that may have been refused meanwhile.
func (b *breaker) still(t Target, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.users[userOf(t)]
	if r == nil || t.insist || r.tried[secretOf(t)].open {
		return nil
	}
	return r.allow(secretOf(t), now)
}

// signed is told what became of a login, in each conversation: whether it was
// refused, or the BMC took the account, which alone forgives what it has refused
// before, or nothing is known.
func (b *breaker) signed(t Target, err error, taken bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, ErrLogin):
		b.refuse(t, err, now)
	case taken || errors.Is(err, ErrMustChange):
		delete(b.users, userOf(t))
	default:
		b.users[userOf(t)].untried(secretOf(t))
	}
}

// untried is told that who was let through is at the end. When no login came of it,
// because the BMC was busy or silent, the next one may try. That no two do at once is
// seen to by still.
func (b *breaker) untried(t Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[userOf(t)].untried(secretOf(t))
}

func (r *refusals) untried(s secret) {
	if r != nil && r.tried[s].open {
		delete(r.tried, s)
	}
}

func (b *breaker) refuse(t Target, err error, now time.Time) {
	if b.users == nil {
		b.users = map[user]*refusals{}
	}
	r := b.users[userOf(t)]
	if r == nil {
		r = &refusals{tried: map[secret]trial{}}
		b.users[userOf(t)] = r
	}
	maps.DeleteFunc(r.tried, func(_ secret, old trial) bool { return !old.until.After(now) })
	r.count++
	r.last = err
	r.tried[secretOf(t)] = trial{until: now.Add(refusedRest)}
}

// changed is told that a user may have this password from now on: it is tried,
// whatever was refused before.
func (b *breaker) changed(t Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t.shell = range []bool{false, true} {
		for _, t.Driver = range []fleet.BMCDriver{fleet.DriverRedfish, fleet.DriverIPMI} {
			if r := b.users[userOf(t)]; r != nil {
				delete(r.tried, secretOf(t))
			}
		}
	}
}
