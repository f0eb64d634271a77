package http

import (
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// times are medians over the nodes that a pool has installed before.
type times struct {
	total time.Duration                 // from the start to the end; 0: nothing known
	at    map[fleet.Phase]time.Duration // from the start to when a phase was reached
}

// medianTimes looks at the runs of one pool; when it has none, at all.
func medianTimes(runs []fleet.Run, pool fleet.PoolName) times {
	if t := medianOf(runs, func(r fleet.Run) bool { return r.Pool == pool }); t.total > 0 {
		return t
	}
	return medianOf(runs, func(fleet.Run) bool { return true })
}

func medianOf(runs []fleet.Run, which func(fleet.Run) bool) times {
	var totals []time.Duration
	at := map[fleet.Phase][]time.Duration{}
	for _, r := range runs {
		if !which(r) {
			continue
		}
		for _, n := range r.Nodes {
			if n.State != fleet.RunDone || n.Class != fleet.Add || n.Ended.Before(n.Started) {
				continue
			}
			totals = append(totals, n.Ended.Sub(n.Started))
			for _, t := range n.Times {
				at[t.Phase] = append(at[t.Phase], t.At.Sub(n.Started))
			}
		}
	}
	out := times{total: median(totals), at: map[fleet.Phase]time.Duration{}}
	for phase, all := range at {
		out.at[phase] = median(all)
	}
	return out
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// remaining estimates how long a node of a run still needs. It does not
// shrink while a node is late: the time left after a phase is the least.
func (t times) remaining(n fleet.RunNode, now time.Time) time.Duration {
	if t.total == 0 || n.State.Over() {
		return 0
	}
	if len(n.Times) == 0 {
		return t.total
	}
	last := n.Times[len(n.Times)-1]
	left := t.total - t.at[last.Phase] - now.Sub(last.At)
	return max(left, t.total-t.next(last.Phase), 0)
}

// next is when the phase after this one is usually reached.
func (t times) next(phase fleet.Phase) time.Duration {
	phases := fleet.Phases()
	for _, p := range phases[slices.Index(phases, phase)+1:] {
		if at, ok := t.at[p]; ok {
			return at
		}
	}
	return t.total
}

// lasts is how long a phase usually takes; 0 when nobody knows.
func (t times) lasts(phase fleet.Phase) time.Duration {
	at, ok := t.at[phase]
	if !ok {
		return 0
	}
	return max(0, t.next(phase)-at)
}

// remainingRun is how long the slowest of a run's nodes still needs.
func (t times) remainingRun(r fleet.Run, now time.Time) (longest time.Duration) {
	for _, n := range r.Nodes {
		if n.State == fleet.RunPending || n.State == fleet.RunRunning {
			longest = max(longest, t.remaining(n, now))
		}
	}
	return longest
}
