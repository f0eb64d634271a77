package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

// A view shows how a run goes on, on stderr.
type view interface {
	wantsPlan() bool                             // for people: show them the plan first
	start(run api.Run, now time.Time)            // the run was started, or there is none to start
	update(run api.Run, now time.Time)           // a newer look at the run
	note(text string, now time.Time)             // something else to know; "": it is over
	finish(run api.Run, now time.Time, code int) // the run is over
}

var progressKinds = []string{"auto", "tty", "plain", "json", "none"}

func addProgress(cmd *cobra.Command, kind *string) {
	cmd.Flags().StringVar(kind, "progress", "auto", "`how` to show progress: "+strings.Join(progressKinds, ", "))
	complete(cmd, "progress", progressKinds...)
}

func checkProgress(kind string) error {
	if slices.Contains(progressKinds, kind) {
		return nil
	}
	return usagef("unknown progress %q; use one of: %s", kind, strings.Join(progressKinds, ", "))
}

// newView is the view that the flags and the terminal ask for.
func (a *app) newView(o runOptions, plan api.Plan) view {
	kind := o.progress
	if kind == "auto" {
		kind = "plain"
		if a.terminal {
			kind = "tty"
		}
	}
	if o.quiet {
		kind = "none"
	}
	switch kind {
	case "tty":
		return &ttyView{w: a.stderr, width: a.width, color: a.color(), console: a.consoleURL(), estimate: estimateOf(plan)}
	case "plain":
		return &plainView{w: a.stderr, plan: plan}
	case "json":
		return &jsonView{w: a.stderr, plan: plan}
	default:
		return noView{}
	}
}

func estimateOf(plan api.Plan) time.Duration { return time.Duration(plan.Estimate) * time.Second }

type noView struct{}

func (noView) wantsPlan() bool                { return false }
func (noView) start(api.Run, time.Time)       {}
func (noView) update(api.Run, time.Time)      {}
func (noView) note(string, time.Time)         {}
func (noView) finish(api.Run, time.Time, int) {}

// A step is one thing that happened to a node between two looks at a run.
type step struct {
	At      time.Time     `json:"at"`
	Node    string        `json:"node"`
	Phase   string        `json:"phase"`
	Attempt int           `json:"attempt,omitempty"` // from 2 on
	Failure *api.Failure  `json:"failure,omitempty"`
	Took    time.Duration `json:"-"` // since the node was started; set for the last one
}

// A tracker tells what is new in a run.
type tracker struct {
	phases   map[string]int // node → how many of its phases were told
	attempts map[string]string
	over     map[string]bool
}

func newTracker() tracker {
	return tracker{phases: map[string]int{}, attempts: map[string]string{}, over: map[string]bool{}}
}

// steps returns what happened since the last call.
func (t tracker) steps(run api.Run, now time.Time) (steps []step) {
	for _, n := range run.Nodes {
		name := nodeName(n)
		told := t.phases[n.Node]
		if told > len(n.Times) { // the phases were started anew
			told = 0
		}
		for _, reached := range n.Times[told:] {
			s := step{At: reached.At, Node: name, Phase: reached.Phase}
			if reached.Phase == lastPhase {
				s.Took = reached.At.Sub(n.Started)
			}
			steps = append(steps, s)
		}
		t.phases[n.Node] = len(n.Times)
		if again := fmt.Sprintf("%s/%d", n.Phase, n.Attempt); n.Attempt > 1 && n.State == "running" && t.attempts[n.Node] != again {
			t.attempts[n.Node] = again
			steps = append(steps, step{At: now, Node: name, Phase: n.Phase, Attempt: n.Attempt, Failure: n.Failure})
		}
		if isFailed(n) && !t.over[n.Node] {
			t.over[n.Node] = true
			steps = append(steps, step{At: orNow(n.Ended, now), Node: name, Phase: n.Phase, Failure: failureOf(n)})
		}
	}
	return steps
}

func orNow(t, now time.Time) time.Time {
	if t.IsZero() {
		return now
	}
	return t
}
