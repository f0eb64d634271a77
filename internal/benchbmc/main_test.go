package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/bmc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAClientSaysWhatWentOtherwise(t *testing.T) {
	tests := map[string]struct {
		alive, dead error // what the two kinds of BMC end with
		wrong       int   // of 40, of which 2 are dead
	}{
		"all is as it shall be":           {nil, bmc.ErrNoAnswer, 0},
		"one that is alive does not work": {errors.New("no"), bmc.ErrNoAnswer, 38},
		"a dead one is not named":         {nil, nil, 2},
		"a dead one is named otherwise":   {nil, bmc.ErrLogin, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j := job{Op: "status", BMCs: someDead(make([]contact, 40))}
			r := work(t.Context(), j, func(_ context.Context, c *contact) error {
				if c.Dead {
					return tt.dead
				}
				return tt.alive
			})
			if r.Count != tt.wrong || len(r.Wrong) > 5 {
				t.Errorf("%d are wrong, want %d: %q", r.Count, tt.wrong, r.Wrong)
			}
		})
	}
}

func TestTheClientWatchesItself(t *testing.T) {
	files := watchFiles()
	if n := files(); n < 3 {
		t.Errorf("%d open files", n)
	}
	if kib, err := mostMemory(); err != nil || kib < 1000 {
		t.Errorf("%d KiB, %v", kib, err)
	}
}

func TestNoTwoBMCsShareAnAddress(t *testing.T) {
	seen := map[string]bool{}
	for i := range 5000 {
		for _, a := range []string{aliveAt(i).String(), deadAt(i).String()} {
			if seen[a] {
				t.Fatalf("%s is there twice", a)
			}
			seen[a] = true
		}
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for name, args := range map[string][]string{
		"nowhere to write": {}, "no such kind": {"-only", "amt", "build"}, "too few": {"-n", "3", "build"}, "no rounds": {"-rounds", "0", "build"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), args, strings.NewReader(""), io.Discard); err == nil {
				t.Error("it ran")
			}
		})
	}
	if err := run(t.Context(), []string{"client"}, strings.NewReader(`{"Op":"melt"}`), io.Discard); err == nil {
		t.Error(fmt.Errorf("a client did a job that there is not"))
	}
}
