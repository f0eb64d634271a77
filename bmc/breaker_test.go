package bmc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestABMCThatDoesNotAnswerIsLeftAloneForAWhile(t *testing.T) {
	now := time.Now()
	var b breaker
	target := Target{Address: "10.0.0.1", Username: "admin", Password: "secret"}
	for i := range mostSilent {
		if err := b.allow(target, now); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
		b.learn(fmt.Errorf("%w within 10s", ErrNoAnswer), now)
	}
	rests := []time.Duration{firstRest, 2 * firstRest, 4 * firstRest, 8 * firstRest, longestRest, longestRest}
	for _, rest := range rests {
		if err := b.allow(target, now.Add(rest-time.Second)); err == nil {
			t.Errorf("a second before %s are over: %v", rest, err)
		}
		now = now.Add(rest)
		if err := b.allow(target, now); err != nil {
			t.Errorf("after %s: %v", rest, err)
		}
		if err := b.allow(target, now); err == nil {
			t.Errorf("a second trial beside the first: %v", err)
		}
		b.learn(ErrHangs, now)
	}
	now = now.Add(longestRest)
	if err := b.allow(target, now); err != nil {
		t.Fatal(err)
	}
	b.learn(nil, now)
	if err := b.allow(target, now); err != nil {
		t.Errorf("one that answers again: %v", err)
	}
}

// A locker is a BMC that counts the logins of a user that it refused.
type locker struct {
	breaker
	right   Password
	refused int
	now     time.Time
}

// try signs in, if the breaker allows it.
func (l *locker) try(p Password) error {
	target := Target{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Username: "admin", Password: p}
	if err := l.allow(target, l.now); err != nil {
		return err
	}
	var err error
	if p != l.right {
		l.refused++
		err = ErrLogin
	}
	l.signed(target, err, err == nil, l.now)
	l.learn(err, l.now)
	return err
}

func TestAnAccountIsNotLocked(t *testing.T) {
	tests := map[string]struct {
		tries   []Password
		refused int
		last    error
	}{
		"by trying a password again":                {[]Password{"a", "a", "a", "a"}, 2, ErrLogin},
		"by trying two in turn":                     {[]Password{"a", "b", "a", "b", "a", "b"}, 2, ErrLogin},
		"and the right one is tried, however late":  {[]Password{"a", "a", "a", "right"}, 2, nil},
		"and so is the right one of two":            {[]Password{"a", "b", "a", "right", "right"}, 2, nil},
		"while one that nobody tried is tried once": {[]Password{"a", "a", "b", "b", "b", "a"}, 3, ErrLogin},
		"and one that signs in forgives":            {[]Password{"a", "right", "a", "right", "a", "right"}, 3, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := &locker{right: "right", now: time.Now()}
			var last error
			for _, p := range tt.tries {
				last = l.try(p)
			}
			if l.refused != tt.refused || !errors.Is(last, tt.last) {
				t.Errorf("%d logins were refused, the last says %v; want %d, %v", l.refused, last, tt.refused, tt.last)
			}
			if last == nil {
				return
			}
			before := l.refused
			l.now = l.now.Add(refusedRest)
			for range 5 {
				last = l.try("a")
			}
			if l.refused != before+1 || !errors.Is(last, ErrLogin) {
				t.Errorf("5 minutes later %d more were refused, want 1", l.refused-before)
			}
			target := Target{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Username: "admin", Password: "a"}
			l.changed(target)
			if err := l.allow(target, l.now); err != nil {
				t.Errorf("a password that it may have got meanwhile: %v", err)
			}
			if err := l.allow(target, l.now); !errors.Is(err, ErrBusy) {
				t.Errorf("a second trial beside the first: %v, want %v", err, ErrBusy)
			}
			target.insist = true
			if err := l.allow(target, l.now); err != nil {
				t.Errorf("what a person asks for: %v", err)
			}
		})
	}
}

func TestWhoWaitedWhileOthersWereRefusedIsNotTheThird(t *testing.T) {
	now := time.Now()
	var b breaker
	target := Target{Address: "10.0.0.1", Username: "admin", Password: "wrong"}
	for range 3 {
		if err := b.allow(target, now); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if err := b.still(target, now); (err != nil) != (i >= mostLogins) {
			t.Errorf("number %d at the BMC: %v", i+1, err)
		}
		b.signed(target, ErrLogin, false, now)
	}
}

func TestOnlyWhatABMCDoesCountsAgainstIt(t *testing.T) {
	now := time.Now()
	var b breaker
	target := Target{Address: "10.0.0.1"}
	for _, err := range []error{ErrBusy, context.Canceled, ErrNoEffect, ErrRejected, ErrUnsupported, ErrPin} {
		for range 2 * mostSilent {
			b.signed(target, err, false, now)
			b.learn(err, now)
		}
		if got := b.allow(target, now); got != nil {
			t.Errorf("after %v: %v", err, got)
		}
	}
}

func TestWhatShowsNothingOfTheAccountForgivesNothing(t *testing.T) {
	now := time.Now()
	for _, other := range []error{nil, ErrBusy, ErrGaveWay, context.Canceled, ErrPin, ErrHangs, ErrSessions} {
		var b breaker
		target := Target{Address: "10.0.0.1", Username: "admin", Password: "wrong"}
		for _, err := range []error{ErrLogin, other, ErrLogin} {
			b.signed(target, err, false, now)
			b.learn(err, now)
		}
		if err := b.allow(target, now); !errors.Is(err, ErrLogin) {
			t.Errorf("with %v in between: %v, want %v", other, err, ErrLogin)
		}
	}
}

func TestAConversationForgivesByItsOwnLoginAlone(t *testing.T) {
	target := Target{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Username: "admin", Password: "secret"}
	other := target
	other.Username = "next"
	tests := map[string]Target{"of the same user": target, "of another user": other}
	for name, second := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(Options{})
				// meet has a conversation that the BMC ends with err, after the login or before.
				meet := func(ctx context.Context, target Target, login bool, err error) {
					_, _ = guard(ctx, c, target, func(ctx context.Context) (none struct{}, _ error) {
						if login {
							admitted(ctx)
						}
						return none, err
					})
				}
				err := c.change(t.Context(), "change", target, func(ctx context.Context) error {
					meet(ctx, target, true, nil)
					for range mostLogins {
						meet(ctx, second, false, ErrSessions)
						meet(t.Context(), second, false, ErrLogin) //nolint:contextcheck // somebody else's
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.gate(second).breaker.allow(second, time.Now()); !errors.Is(err, ErrLogin) {
					t.Errorf("what was refused is forgiven by a login before: %v, want %v", err, ErrLogin)
				}
				meet(t.Context(), Target{Address: target.Address, Driver: target.Driver, Username: second.Username, Password: "new"}, true, nil)
				if err := c.gate(second).breaker.allow(second, time.Now()); err != nil {
					t.Errorf("after a login: %v", err)
				}
			})
		})
	}
}

// A password that was not refused is tried once, and others wait for what comes of it:
// not when nothing does, because the BMC said nothing of it, or was never asked.
func TestATrialThatComesToNothingKeepsNobodyWaiting(t *testing.T) {
	target := Target{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Username: "admin", Password: "right"}
	wrong := target
	wrong.Password = "wrong"
	none := func(err error) func(context.Context, *Controller) error {
		return func(ctx context.Context, c *Controller) error {
			_, err := guard(ctx, c, target, func(context.Context) (struct{}, error) { return struct{}{}, err })
			return err
		}
	}
	// occupied has somebody else have all turns of the BMC.
	occupied := func(try func(context.Context, *Controller) error) func(context.Context, *Controller) error {
		return func(ctx context.Context, c *Controller) error {
			g := c.gate(target)
			end, err := g.turn(ctx, g)
			if err != nil {
				return err
			}
			defer end()
			return try(ctx, c)
		}
	}
	hungUp := func(ctx context.Context, c *Controller) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := c.OpenConsole(ctx, target, ConsoleOptions{})
		return err
	}
	tests := map[string]func(context.Context, *Controller) error{
		"it is silent":             none(ErrNoAnswer),
		"it has no session":        none(ErrSessions),
		"a change that waits":      occupied(func(ctx context.Context, c *Controller) error { return c.PowerOn(ctx, target) }),
		"a console that is closed": hungUp,
		"a probe that is given up": func(ctx context.Context, c *Controller) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := c.Probe(ctx, target)
			return err
		},
	}
	for name, try := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(Options{Settle: time.Second, Timeout: time.Second})
				for range mostLogins {
					_, _ = guard(t.Context(), c, wrong, func(context.Context) (struct{}, error) { return struct{}{}, ErrLogin })
				}
				if err := try(t.Context(), c); err == nil {
					t.Fatal("it has come to something")
				}
				if err := c.gate(target).breaker.allow(target, time.Now()); err != nil {
					t.Errorf("the next one hears: %v", err)
				}
				if err := c.gate(wrong).breaker.allow(wrong, time.Now()); !errors.Is(err, ErrLogin) {
					t.Errorf("who has the wrong password hears %v, want %v", err, ErrLogin)
				}
			})
		})
	}
}

func FuzzWhatIPMIToolPrintsBreaksNothing(f *testing.F) {
	f.Add(" 01 05 a0 04 00 00 00\n")
	f.Add(" 01 05 00 04\n 00 00 00\n")
	f.Add("Chassis Power is on\n")
	f.Fuzz(func(t *testing.T, said string) {
		if flags, err := parseBootFlags(said); err != nil && !errors.Is(err, ErrRejected) {
			t.Errorf("parseBootFlags = %+v, %v", flags, err)
		}
		if is := powerState(said); is != fleet.PowerIsOn && is != fleet.PowerIsOff && is != fleet.PowerIsUnknown {
			t.Errorf("powerState = %q", is)
		}
	})
}
