package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// withRack runs a test with n machines of a site, and a server that has enrolled
// them.
func withRack(t *testing.T, n int, site fleet.Site, test func(t *testing.T, r *rack)) {
	t.Helper()
	withShop(t, n, site, nil, test)
}

// withShop is withRack for machines whose firmware can be changed.
func withShop(t *testing.T, n int, site fleet.Site, w *workshop, test func(t *testing.T, r *rack)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, n)
		r.store, r.shop = &memoryStore{world: fleet.World{Site: site}}, w
		r.up()
		r.enrol(r.server)
		test(t, r)
		r.kill()
		stop()
		synctest.Wait()
	})
}

// up starts the rack's server on what the last one has stored.
func (r *rack) up() *Engine {
	e, kill := r.serve(r.store)
	r.kill = kill
	return e
}

// restart kills the rack's server and starts another one soon.
func (r *rack) restart() *Engine {
	r.kill()
	time.Sleep(7 * time.Second) //nolint:forbidigo // fake time: synctest
	return r.up()
}

// survive has a pool's run carried out again and again, and kills the server at
// another save each time, from the first to the last: the next one goes on, and
// the run is done.
func survive(t *testing.T, least int, raise func(t *testing.T, test func(t *testing.T, r *rack)), check func(t *testing.T, r *rack)) {
	t.Helper()
	saves := 0
	for cut := 1; cut == 1 || cut <= saves; cut++ {
		raise(t, func(t *testing.T, r *rack) {
			all := r.runWithACut(cut)
			check(t, r)
			if cut == 1 {
				saves = all
			}
		})
		if t.Failed() {
			t.Fatalf("the server was killed at save %d", cut)
		}
	}
	if saves < least {
		t.Errorf("only %d saves were cut: the test did not see a whole run", saves)
	}
}

// runWithACut starts a run, kills the server at the given save of it, starts
// another one, and returns how many saves there were in all.
func (r *rack) runWithACut(cut int) int {
	s, run := r.store, start(r.t, r.server)
	before := s.cutAt(cut, r.kill)
	if got := over(r.t, r.up(), run.ID); got.State != fleet.RunDone {
		r.t.Errorf("run is %s, want done: %+v", got.State, got.Nodes)
	}
	return s.saves - before
}

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
