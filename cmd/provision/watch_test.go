package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/api"
)

// restarted is a server that goes away for a while in the middle of a run.
type restarted struct {
	server
	looks, awayFrom, awayTo, doneAt int
}

func (s *restarted) WaitRun(ctx context.Context, id, _ string, wait time.Duration) (api.Run, error) {
	s.looks++
	run := api.Run{ID: id, Pool: "prd", State: "running", Started: time.Now(), Working: 1}
	switch {
	case s.looks >= s.awayFrom && s.looks < s.awayTo:
		return api.Run{}, &api.UnreachableError{Server: "unix:/run/api.sock", Err: errors.New("connection refused")}
	case s.looks >= s.doneAt:
		run.State, run.Done, run.Working = "done", 1, 0
		return run, nil
	}
	if !sleep(ctx, wait) {
		return api.Run{}, ctx.Err()
	}
	return run, nil
}

func plainApp() (a *app, stderr *strings.Builder) {
	a, stderr = person("")
	a.terminal = false
	return a, stderr
}

func TestWatchSurvivesARestartOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stderr := plainApp()
		srv := &restarted{awayFrom: 3, awayTo: 200, doneAt: 210}
		view := &plainView{w: stderr}
		if err := a.watch(t.Context(), srv, api.Run{ID: "prd-1", Pool: "prd"}, watchOptions{view: view, quiet: true}); err != nil {
			t.Fatalf("watch = %v", err)
		}
		if n := strings.Count(stderr.String(), "waiting for it"); n != 1 {
			t.Errorf("said %d times that the server is away, want once:\n%s", n, stderr)
		}
		if !strings.Contains(stderr.String(), "progress active=0 working=1") {
			t.Errorf("no heartbeat:\n%s", stderr)
		}
	})
}

func TestWatchGivesUpOnAServerThatStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := plainApp()
		srv := &restarted{awayFrom: 1, awayTo: 1 << 30, doneAt: 1 << 30}
		began := time.Now()
		err := a.watch(t.Context(), srv, api.Run{ID: "prd-1"}, watchOptions{view: noView{}})
		if got := exitCode(err); got != exitUnreachable {
			t.Errorf("exit code %d (%v), want %d", got, err, exitUnreachable)
		}
		if gone := time.Since(began); gone < patience || gone > patience+time.Second {
			t.Errorf("gave up after %s, want %s", gone, patience)
		}
	})
}

func TestWatchStopsAtItsTimeoutAndTheRunGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := plainApp()
		srv := &restarted{doneAt: 1 << 30, awayFrom: 1 << 30}
		err := a.watch(t.Context(), srv, api.Run{ID: "prd-1"}, watchOptions{view: noView{}, timeout: 90 * time.Minute})
		if got := exitCode(err); got != exitTimeout || err.Error() != "timed out after 1h30m; run prd-1 goes on" {
			t.Errorf("exit code %d (%v), want %d", got, err, exitTimeout)
		}
	})
}

func TestCtrlCDetachesFromTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := plainApp()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		err := a.watch(ctx, &restarted{doneAt: 1 << 30, awayFrom: 1 << 30}, api.Run{ID: "prd-1"}, watchOptions{view: noView{}})
		if got := exitCode(err); got != exitInterrupted || hintOf(err) != "watch it:  provision runs watch prd-1" {
			t.Errorf("exit code %d (%v, hint %q), want %d and how to watch", got, err, hintOf(err), exitInterrupted)
		}
	})
}
