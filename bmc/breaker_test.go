package bmc

import (
	"context"
	"errors"
	"fmt"
	"testing"
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
		b.learn(target, fmt.Errorf("%w within 10s", ErrNoAnswer), now)
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
		b.learn(target, ErrHangs, now)
	}
	now = now.Add(longestRest)
	if err := b.allow(target, now); err != nil {
		t.Fatal(err)
	}
	b.learn(target, nil, now)
	if err := b.allow(target, now); err != nil {
		t.Errorf("one that answers again: %v", err)
	}
}

func TestAnAccountIsNotLockedByTryingItAgain(t *testing.T) {
	now := time.Now()
	var b breaker
	target := Target{Address: "10.0.0.1", Username: "admin", Password: "wrong"}
	for range mostLogins {
		if err := b.allow(target, now); err != nil {
			t.Fatal(err)
		}
		b.learn(target, ErrLogin, now)
	}
	if err := b.allow(target, now); !errors.Is(err, ErrLogin) {
		t.Errorf("another try: %v", err)
	}
	other := target
	other.Password = "right"
	if err := b.allow(other, now); err != nil {
		t.Errorf("another password: %v", err)
	}
	if err := b.allow(target, now.Add(refusedRest)); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

func TestOnlyWhatABMCDoesCountsAgainstIt(t *testing.T) {
	now := time.Now()
	var b breaker
	target := Target{Address: "10.0.0.1"}
	for _, err := range []error{ErrBusy, context.Canceled, ErrNoEffect, ErrRejected, ErrUnsupported, ErrPin} {
		for range 2 * mostSilent {
			b.learn(target, err, now)
		}
		if got := b.allow(target, now); got != nil {
			t.Errorf("after %v: %v", err, got)
		}
	}
}

func TestWhatIsOfOursForgivesNothing(t *testing.T) {
	now := time.Now()
	for _, ours := range []error{ErrBusy, ErrGaveWay, context.Canceled} {
		var b breaker
		target := Target{Address: "10.0.0.1", Username: "admin", Password: "wrong"}
		b.learn(target, ErrLogin, now)
		b.learn(target, ours, now)
		b.learn(target, ErrLogin, now)
		if err := b.allow(target, now); !errors.Is(err, ErrLogin) {
			t.Errorf("with %v in between: %v, want %v", ours, err, ErrLogin)
		}
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
