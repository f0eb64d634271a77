package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

func checkActive(t *testing.T, r *rack, want int) {
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
	for _, n := range r.server.Nodes() {
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
	withRack(t, 1, testSite(), func(t *testing.T, r *rack) {
		m := r.machine()
		m.stops, m.boots = []fleet.Phase{fleet.PhaseKernel}, 0
		run := over(t, r.server, start(t, r.server).ID)
		if run.State != fleet.RunDone || m.boots != 3 { // one that hung, one to install, one of the system
			t.Errorf("run is %s after %d boots, want done after 3: %+v", run.State, m.boots, run.Nodes)
		}
		if took := run.Ended.Sub(run.Started); took < agentWithin || took > agentWithin+2*time.Minute {
			t.Errorf("the run took %s, want %s for the boot that hung and little more", took, agentWithin)
		}
	})
}

func TestThreeMachinesBecomeOneSwarm(t *testing.T) {
	withRack(t, 3, testSite(), func(t *testing.T, r *rack) {
		r.left = []string{"m1 (prd-02)", "m2 (without a name)"}
		run := over(t, r.server, start(t, r.server).ID)
		if run.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", run.State, run.Nodes)
		}
		checkActive(t, r, 1)
		synctest.Wait() // until it has tidied up
		if r.rotated != 1 {
			t.Errorf("tokens rotated %d times, want once", r.rotated)
		}
		if !slices.ContainsFunc(r.store.events, func(e fleet.Event) bool {
			return e.Run == run.ID && strings.HasSuffix(e.Text, ": m1 (prd-02), m2 (without a name)")
		}) {
			t.Error("no event names the members that joins left and the run removed")
		}
		for _, rn := range run.Nodes {
			if len(rn.Times) < 10 {
				t.Errorf("node %s has %d phase times: %v", rn.Name, len(rn.Times), rn.Times)
			}
		}
		p, err := r.server.Plan(t.Context(), "prd")
		if err != nil || !p.AsDeclared() {
			t.Errorf("plan after the run: %+v, %v; want as declared", p, err)
		}
	})
}

// The server is killed at every single save of a whole install, in turn; the
// next one goes on, and the rack ends as it should each time.
func TestARunSurvivesAKillAtAnyMoment(t *testing.T) {
	for managers, least := range map[int]int{1: 30, 3: 60} {
		site := testSite()
		site.Pools[0].Managers = managers
		raise := func(t *testing.T, test func(t *testing.T, r *rack)) { withRack(t, managers+2, site, test) }
		survive(t, least, raise, func(t *testing.T, r *rack) { checkActive(t, r, managers) })
	}
}

// A server that stops because one of its services failed leaves its runs as
// they are, like any other.
func TestAFailedServiceIsNoFailureOfANode(t *testing.T) {
	withRack(t, 3, testSite(), func(t *testing.T, r *rack) {
		r.kill()
		ctx, stop := context.WithCancelCause(t.Context())
		e, _ := r.serveOn(ctx, r.store)
		run := start(t, e)
		time.Sleep(20 * time.Second) //nolint:forbidigo // fake time: synctest
		stop(errors.New("dhcp: network is down"))
		synctest.Wait()
		if got := over(t, r.up(), run.ID); got.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", got.State, got.Nodes)
		}
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
	withRack(t, 1, testSite(), func(t *testing.T, r *rack) {
		m := r.machine()
		m.holds = "ext4"
		run := over(t, r.server, start(t, r.server).ID)
		if got := run.Nodes[0].Failure.Code; got != "E-DISK-HOLDS" {
			t.Errorf("the node failed with %q, want E-DISK-HOLDS", got)
		}
		if m.wiped != 0 {
			t.Error("the disk was wiped")
		}
	})
}

// A run is over before its cluster is tidied up, which may take a minute; the
// tokens that it gave out are worthless by then.
func TestARunDoesNotWaitForTheTidyUp(t *testing.T) {
	withRack(t, 2, testSite(), func(t *testing.T, r *rack) {
		r.left, r.doubt = []string{"m1 (prd-02)"}, time.Minute
		run := over(t, r.server, start(t, r.server).ID)
		ended := r.told(run.ID, "ended: 2 active")
		if tokens := r.told(run.ID, "join tokens rotated"); tokens < 0 || ended < tokens {
			t.Errorf("tokens rotated is event %d, the end %d; want it before", tokens, ended)
		}
		if at := r.told(run.ID, "removed from the cluster's list"); at >= 0 {
			t.Errorf("the run has waited for the tidy-up: event %d", at)
		}
		wait(time.Minute)
		if at := r.told(run.ID, "removed from the cluster's list"); at < ended {
			t.Errorf("what was removed is event %d, the end %d; want it after", at, ended)
		}
	})
}

func TestAManagerThatIsAwayIsNotAskedToTidyUp(t *testing.T) {
	withRack(t, 2, testSite(), func(t *testing.T, r *rack) {
		r.away = true
		run := over(t, r.server, start(t, r.server).ID)
		if at := r.told(run.ID, "join tokens NOT rotated"); at < 0 || at > r.told(run.ID, "ended: 2 active") {
			t.Errorf("that tokens were not rotated is event %d", at)
		}
		wait(5 * time.Minute)
		if r.tidied != 0 {
			t.Errorf("tidied up %d times by a manager that did not answer", r.tidied)
		}
	})
}

// A server that is stopped while it tidies up does not wait for it, and says what
// is gone; the next one finds the run over, and its next run looks again.
func TestAServerIsStoppedWhileItTidiesUp(t *testing.T) {
	withRack(t, 2, testSite(), func(t *testing.T, r *rack) {
		r.left, r.doubt = []string{"m1 (prd-02)"}, time.Minute
		run := over(t, r.server, start(t, r.server).ID)
		stopped := time.Now()
		r.kill()
		if took := time.Since(stopped); took > time.Second {
			t.Errorf("it took %s to stop", took)
		}
		if at := r.told(run.ID, "removed from the cluster's list"); at < 0 {
			t.Error("no event names what was removed before the end")
		}
		e := r.up()
		wait(5 * time.Minute)
		if got, err := e.GetRun(run.ID); err != nil || got.State != fleet.RunDone || r.tidied != 1 || r.rotated != 1 {
			t.Errorf("run is %s, %v; tidied %d, rotated %d times", got.State, err, r.tidied, r.rotated)
		}
	})
}

// A server that is stopped while it rotates tokens leaves the run to the next
// one, which does it again.
func TestAServerIsStoppedWhileItRotatesTokens(t *testing.T) {
	withRack(t, 2, testSite(), func(t *testing.T, r *rack) {
		r.slow = time.Minute
		run := start(t, r.server)
		for r.count(&r.rotated) == 0 {
			wait(time.Second)
		}
		r.kill()
		if at := r.told(run.ID, "join tokens"); at >= 0 || r.told(run.ID, "ended") >= 0 {
			t.Errorf("of the tokens is event %d, of the end %d; want neither", at, r.told(run.ID, "ended"))
		}
		over(t, r.up(), run.ID)
		if at := r.told(run.ID, "join tokens rotated"); at < 0 || r.rotated != 2 {
			t.Errorf("that tokens were rotated is event %d, it was tried %d times; want twice", at, r.rotated)
		}
	})
}

func TestWhichNodesAreJoining(t *testing.T) {
	e := New(Options{})
	for id, s := range map[fleet.NodeID]fleet.State{"n-1": fleet.Installed, "n-2": fleet.Joining, "n-3": fleet.Active, "n-4": fleet.Failed} {
		e.world.index(fleet.Node{ID: id, State: s})
	}
	if got := e.Joining(); len(got) != 1 || got[0].ID != "n-2" {
		t.Errorf("Joining = %+v, want n-2", got)
	}
}

func (r *rack) count(of *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *of
}

// told returns which event of a run begins so; -1: none.
func (r *rack) told(run fleet.RunID, text string) int {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	return slices.IndexFunc(r.store.events, func(e fleet.Event) bool { return e.Run == run && strings.HasPrefix(e.Text, text) })
}
