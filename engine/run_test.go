package engine

import (
	"context"
	"errors"
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

func checkActive(t *testing.T, r *rack, e *Engine, want int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	clusters := map[string]bool{}
	for _, m := range r.machines {
		clusters[m.swarm] = true
		if m.wiped != 1 || m.written != 1 {
			t.Errorf("machine %s was wiped %d and written %d times, want once each", m.mac, m.wiped, m.written)
		}
	}
	if len(clusters) != 1 {
		t.Errorf("the machines are in clusters %v, want one", clusters)
	}
	managers := 0
	for _, n := range e.Nodes() {
		if n.State != fleet.Active {
			t.Errorf("node %s is %s (%+v), want active", n.Title(), n.State, n.Failure)
		}
		if n.Member.Role == fleet.Manager {
			managers++
		}
	}
	if managers != want || r.formed != 1 {
		t.Errorf("%d managers, %d clusters formed; want %d and one", managers, r.formed, want)
	}
}

func TestAKernelThatHangsIsNotWaitedForToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 1)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		r.enrol(e)
		m := r.machines["52:54:00:00:00:01"]
		r.mu.Lock()
		m.hangs, m.boots = 1, 0
		r.mu.Unlock()
		run := over(t, e, start(t, e).ID)
		if run.State != fleet.RunDone || m.boots != 3 { // one that hung, one to install, one of the system
			t.Errorf("run is %s after %d boots, want done after 3: %+v", run.State, m.boots, run.Nodes)
		}
		if took := run.Ended.Sub(run.Started); took < agentWithin || took > agentWithin+2*time.Minute {
			t.Errorf("the run took %s, want %s for the boot that hung and little more", took, agentWithin)
		}
		kill()
		stop()
		synctest.Wait()
	})
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
		checkActive(t, r, e, 1)
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
	for managers, least := range map[int]int{1: 30, 3: 60} {
		saves := 0
		for cut := 1; cut == 1 || cut <= saves; cut++ {
			synctest.Test(t, func(t *testing.T) {
				all := runWithACut(t, managers, cut)
				if cut == 1 {
					saves = all
				}
			})
			if t.Failed() {
				return
			}
		}
		if saves < least {
			t.Errorf("only %d saves were cut with %d managers: the test did not see a whole install", saves, managers)
		}
	}
}

// runWithACut installs a rack, kills the server at the given save of the run,
// starts another one, and returns how many saves there were in all.
func runWithACut(t *testing.T, managers, cut int) int {
	ctx, stop := context.WithCancel(t.Context())
	r := newRack(ctx, t, managers+2)
	site := testSite()
	site.Pools[0].Managers = managers
	s := &memoryStore{world: fleet.World{Site: site}}
	e, kill := r.serve(s)
	r.enrol(e)
	run := start(t, e)
	before := s.cutAt(cut, kill)
	e, kill = r.serve(s)
	if got := over(t, e, run.ID); got.State != fleet.RunDone {
		t.Errorf("cut %d: run is %s, want done: %+v", cut, got.State, got.Nodes)
	}
	checkActive(t, r, e, managers)
	kill()
	stop()
	synctest.Wait()
	return s.saves - before
}

// A server that stops because one of its services failed leaves its runs as
// they are, like any other.
func TestAFailedServiceIsNoFailureOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		rackCtx, off := context.WithCancel(t.Context())
		r := newRack(rackCtx, t, 3)
		s := &memoryStore{world: fleet.World{Site: testSite()}}
		e, _ := r.serveOn(ctx, s)
		r.enrol(e)
		run := start(t, e)
		time.Sleep(20 * time.Second) //nolint:forbidigo // fake time: synctest
		stop(errors.New("dhcp: network is down"))
		synctest.Wait()
		e, kill := r.serve(s)
		if got := over(t, e, run.ID); got.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", got.State, got.Nodes)
		}
		kill()
		off()
		synctest.Wait()
	})
}

// What a machine says about its further cards takes no address away from
// another node.
func TestAMachineCannotTakeAnothersMAC(t *testing.T) {
	w := newWorld()
	w.index(fleet.Node{ID: "victim", MAC: "52:54:00:00:00:01", MACs: []fleet.MAC{"52:54:00:00:00:01"}})
	w.index(fleet.Node{ID: "evil", MAC: "52:54:00:00:00:02", MACs: []fleet.MAC{"52:54:00:00:00:02", "52:54:00:00:00:01"}})
	w.index(fleet.Node{ID: "evil", MAC: "52:54:00:00:00:02", MACs: []fleet.MAC{"52:54:00:00:00:02"}})
	if got := w.byMAC["52:54:00:00:00:01"]; got != "victim" {
		t.Errorf("the card belongs to %q, want victim", got)
	}
}

// A disk that was blank when it was planned and is not any more is not wiped.
func TestADiskThatHoldsSomethingSinceThePlanIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 1)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		r.enrol(e)
		r.mu.Lock()
		for _, m := range r.machines {
			m.holds = "ext4"
		}
		r.mu.Unlock()
		run := over(t, e, start(t, e).ID)
		if got := run.Nodes[0].Failure.Code; got != "E-DISK-HOLDS" {
			t.Errorf("the node failed with %q, want E-DISK-HOLDS", got)
		}
		for _, m := range r.machines {
			if m.wiped != 0 {
				t.Error("the disk was wiped")
			}
		}
		kill()
		stop()
		synctest.Wait()
	})
}
