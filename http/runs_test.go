package http

import (
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestWaitingForARun(t *testing.T) {
	started := time.Unix(1_800_000_000, 0).UTC()
	run := fleet.Run{
		ID: "prd-1", Pool: "prd", State: fleet.RunRunning, Started: started,
		Nodes: []fleet.RunNode{{Node: "n-0000000001", State: fleet.RunRunning, Phase: fleet.PhaseWrite, Started: started}},
	}
	c, e := local(t)
	e.putRun(run)
	first, err := c.Run(t.Context(), "prd-1")
	if err != nil || first.Revision == "" || first.Working != 1 {
		t.Fatalf("run = %+v, %v", first, err)
	}

	t.Run("who has not seen the newest gets it at once", func(t *testing.T) {
		got, err := c.WaitRun(t.Context(), "prd-1", "something older", time.Minute)
		if err != nil || got.Revision != first.Revision {
			t.Errorf("run = %+v, %v", got, err)
		}
	})
	t.Run("nothing changes", func(t *testing.T) {
		begin := time.Now()
		got, err := c.WaitRun(t.Context(), "prd-1", first.Revision, 50*time.Millisecond)
		if took := time.Since(begin); err != nil || got.Revision != first.Revision || took < 50*time.Millisecond {
			t.Errorf("run = %+v, %v after %s", got, err, took)
		}
	})
	t.Run("progress is a change", func(t *testing.T) {
		result := make(chan api.Run, 1)
		go func() {
			got, _ := c.WaitRun(t.Context(), "prd-1", first.Revision, 20*time.Second)
			result <- got
		}()
		n, _ := e.Node("n-0000000001")
		n.Run, n.Phase, n.Progress = "prd-1", fleet.PhaseWrite, 40
		e.put(n, fleet.Event{Type: fleet.EventProgress, Node: n.ID, Run: "prd-1"})
		if got := <-result; got.Revision == first.Revision || got.Nodes[0].Progress != 40 {
			t.Errorf("run = %+v, want progress 40", got)
		}
	})
	t.Run("a run that is over is not waited for", func(t *testing.T) {
		run.State, run.Ended = fleet.RunDone, started.Add(time.Minute)
		e.putRun(run)
		now, err := c.Run(t.Context(), "prd-1")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		got, err := c.WaitRun(t.Context(), "prd-1", now.Revision, time.Minute)
		if took := time.Since(begin); err != nil || got.State != "done" || took > 5*time.Second {
			t.Errorf("run = %+v, %v after %s", got, err, took)
		}
	})
}

// installed makes one node's part of a run out of how long each phase took.
func installed(started time.Time, state fleet.RunState, phases []fleet.Phase, seconds ...int) fleet.RunNode {
	n := fleet.RunNode{Class: fleet.Add, State: state, Started: started}
	at := started
	for i, p := range phases {
		n.Times = append(n.Times, fleet.PhaseTime{Phase: p, At: at})
		at = at.Add(time.Duration(seconds[i]) * time.Second)
	}
	if state.Over() {
		n.Ended = at
	}
	return n
}

func TestEstimates(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	phases := []fleet.Phase{fleet.PhasePower, fleet.PhaseKernel, fleet.PhaseWrite, fleet.PhaseActive}
	old := fleet.Run{ID: "prd-1", Pool: "prd", State: fleet.RunDone, Nodes: []fleet.RunNode{
		installed(start, fleet.RunDone, phases, 10, 20, 70, 0),
		installed(start, fleet.RunDone, phases, 10, 20, 70, 0),
		installed(start, fleet.RunDone, phases, 90, 20, 70, 0), // slow once
		installed(start, fleet.RunFailed, phases[:1], 5),       // does not count
	}}
	usual := medianTimes([]fleet.Run{old}, "prd")
	if usual.total != 100*time.Second || usual.lasts(fleet.PhaseKernel) != 20*time.Second {
		t.Fatalf("medians = %+v", usual)
	}
	if other := medianTimes([]fleet.Run{old}, "dev"); other.total != usual.total {
		t.Errorf("a pool without runs has %v, want what is known of others", other.total)
	}
	tests := map[string]struct {
		node fleet.RunNode
		at   int
		want time.Duration
	}{
		"not begun":             {fleet.RunNode{State: fleet.RunPending}, 0, 100 * time.Second},
		"in the kernel":         {installed(start, fleet.RunRunning, phases[:2], 10, 20), 15, 85 * time.Second},
		"late in the kernel":    {installed(start, fleet.RunRunning, phases[:2], 10, 20), 500, 70 * time.Second},
		"late in its last step": {installed(start, fleet.RunRunning, phases[:3], 10, 20, 70), 500, 0},
		"done":                  {installed(start, fleet.RunDone, phases, 10, 20, 70, 0), 500, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := usual.remaining(tt.node, start.Add(time.Duration(tt.at)*time.Second)); got != tt.want {
				t.Errorf("remaining = %v, want %v", got, tt.want)
			}
		})
	}
	if got := (times{}).remaining(fleet.RunNode{State: fleet.RunRunning}, start); got != 0 {
		t.Errorf("without earlier boots remaining = %v, want 0", got)
	}
}
