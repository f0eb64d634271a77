package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// enrol switches all machines on, as a person would, and waits until they
// have said hello and were switched off again.
func (r *rack) enrol(e *Engine) {
	r.mu.Lock()
	for _, m := range r.machines {
		m.powerOn()
	}
	r.mu.Unlock()
	time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
	for _, n := range e.Nodes() {
		if n.State != fleet.Ready {
			r.t.Fatalf("node %s is %s after enrolment, want ready", n.MAC, n.State)
		}
	}
	if got := len(e.Nodes()); got != len(r.machines) {
		r.t.Fatalf("%d nodes enrolled, want %d", got, len(r.machines))
	}
}

func start(t *testing.T, e *Engine) fleet.Run {
	t.Helper()
	p, err := e.Plan(t.Context(), "prd")
	if err != nil {
		t.Fatal(err)
	}
	run, err := e.Start(t.Context(), "tester", "prd", fleet.StartOptions{Plan: p.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// over waits until the run is over, for at most two hours of fake time.
func over(t *testing.T, e *Engine, id fleet.RunID) fleet.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	for {
		changed := e.Changed()
		r, err := e.GetRun(id)
		if err != nil {
			t.Fatal(err)
		}
		if r.State.Over() {
			return r
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("run %s is not over after two hours: %+v", id, r)
		}
	}
}

func checkActive(t *testing.T, r *rack, e *Engine) {
	t.Helper()
	managers := 0
	for _, n := range e.Nodes() {
		if n.State != fleet.Active {
			t.Errorf("node %s is %s (%+v), want active", n.Title(), n.State, n.Failure)
		}
		if n.Member.Role == fleet.Manager {
			managers++
		}
	}
	if managers != 1 || r.formed != 1 {
		t.Errorf("%d managers, %d clusters formed; want one of each", managers, r.formed)
	}
}

func TestThreeMachinesBecomeOneSwarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 3)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		r.enrol(e)
		run := over(t, e, start(t, e).ID)
		if run.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", run.State, run.Nodes)
		}
		checkActive(t, r, e)
		if r.rotated != 1 {
			t.Errorf("tokens rotated %d times, want once", r.rotated)
		}
		for _, rn := range run.Nodes {
			if len(rn.Times) < 10 {
				t.Errorf("node %s has %d phase times: %v", rn.Name, len(rn.Times), rn.Times)
			}
		}
		p, err := e.Plan(ctx, "prd")
		if err != nil || !p.AsDeclared() {
			t.Errorf("plan after the run: %+v, %v; want as declared", p, err)
		}
		kill()
		stop()
		synctest.Wait()
	})
}

// The server is killed at every single save of a whole install, in turn; the
// next one goes on, and the rack ends as it should each time.
func TestARunSurvivesAKillAtAnyMoment(t *testing.T) {
	saves := 0
	for cut := 1; cut == 1 || cut <= saves; cut++ {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			r := newRack(ctx, t, 3)
			s := &memoryStore{world: fleet.World{Site: testSite()}}
			e, kill := r.serve(s)
			r.enrol(e)
			run := start(t, e)
			before := s.saves
			died := make(chan struct{})
			s.mu.Lock()
			s.onCut, s.pull = func() { close(died) }, before+cut
			s.mu.Unlock()
			select {
			case <-died:
			case <-time.After(2 * time.Hour):
				if cut <= saves {
					t.Logf("cut %d was never reached", cut)
				}
			}
			kill()
			time.Sleep(7 * time.Second) //nolint:forbidigo // fake time: synctest
			s.mu.Lock()
			s.pull = 0
			s.mu.Unlock()
			e, kill = r.serve(s)
			if got := over(t, e, run.ID); got.State != fleet.RunDone {
				t.Errorf("cut %d: run is %s, want done: %+v", cut, got.State, got.Nodes)
			}
			checkActive(t, r, e)
			if cut == 1 {
				saves = s.saves - before
			}
			kill()
			stop()
			synctest.Wait()
		})
		if t.Failed() {
			return
		}
	}
	if saves < 30 {
		t.Errorf("only %d saves were cut: the test did not see a whole install", saves)
	}
}
