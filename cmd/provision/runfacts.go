package main

import (
	"slices"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

const lastPhase = string(fleet.PhaseActive)

// What people want to know of a run, computed from how it looks now.

func nodeName(n api.RunNode) string {
	if n.Name != "" {
		return n.Name
	}
	return n.Node
}

func isFailed(n api.RunNode) bool {
	return n.State == string(fleet.RunFailed) || n.State == string(fleet.RunCanceled)
}

func isOver(run api.Run) bool { return fleet.RunState(run.State).Over() }

// failureOf never is nil: a node that failed without a reason says so.
func failureOf(n api.RunNode) *api.Failure {
	if n.Failure != nil {
		return n.Failure
	}
	return &api.Failure{Code: "E-" + n.State, Phase: n.Phase, Text: "no reason was given"}
}

// phaseSince is when the phase under way began.
func phaseSince(n api.RunNode) time.Time {
	if len(n.Times) > 0 {
		return n.Times[len(n.Times)-1].At
	}
	return n.Started
}

// nodeTook is how long a node's part took, or has taken until now.
func nodeTook(n api.RunNode, now time.Time) time.Duration {
	if n.Started.IsZero() {
		return 0
	}
	return orNow(n.Ended, now).Sub(n.Started)
}

// share is how much of its way a run has gone, from 0 to 1.
func share(run api.Run) float64 {
	var sum float64
	n := 0
	for _, node := range run.Nodes {
		if node.State == string(fleet.RunHeld) {
			continue
		}
		n++
		sum += nodeShare(node)
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

func nodeShare(n api.RunNode) float64 {
	if fleet.RunState(n.State).Over() {
		return 1
	}
	phases := slices.DeleteFunc(fleet.Phases(), fleet.Phase.Setup) // most pools have none of those
	i := slices.Index(phases, fleet.Phase(n.Phase))
	if i < 0 {
		return 0
	}
	within := float64(min(max(n.Progress, 0), 100)) / 100
	return (float64(i) + within) / float64(len(phases))
}

// eta is how long a run will still take, or 0 when nobody can tell.
func eta(run api.Run, estimate time.Duration, now time.Time) time.Duration {
	if isOver(run) || run.Started.IsZero() {
		return 0
	}
	gone := now.Sub(run.Started)
	if estimate > gone {
		return estimate - gone
	}
	if s := share(run); s > 0.1 {
		return time.Duration(float64(gone) * (1 - s) / s)
	}
	return 0
}

// runExit is the exit code that the end of a run means.
func runExit(run api.Run) int {
	switch {
	case run.Failed > 0, run.State == string(fleet.RunFailed), run.State == string(fleet.RunCanceled):
		return exitFailed
	case run.Held > 0:
		return exitHeld
	default:
		return exitOK
	}
}

// total counts the nodes that the run works on.
func total(run api.Run) int { return run.Done + run.Failed + run.Working }

// phasesReached lists the phases that any node of a run reached, in order.
func phasesReached(run api.Run) (names []string) {
	reached := map[string]bool{}
	for _, n := range run.Nodes {
		for _, t := range n.Times {
			reached[t.Phase] = true
		}
	}
	for _, p := range fleet.Phases() {
		if reached[string(p)] {
			names = append(names, string(p))
		}
	}
	return names
}
