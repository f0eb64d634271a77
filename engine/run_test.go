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
