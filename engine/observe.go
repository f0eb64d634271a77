package engine

import (
	"context"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Observe reports a fact of a boot. It never blocks: what does not fit into
// the queue is counted and dropped.
func (e *Engine) Observe(ev fleet.Evidence) {
	select {
	case e.sights <- ev:
	default:
		e.dropped.Add(1)
	}
}

// Dropped returns how many facts did not fit into the queue.
func (e *Engine) Dropped() int64 { return e.dropped.Load() }

// takeReports stores what the wires report: sightings and alarms.
func (e *Engine) takeReports(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.alarms.wake:
			e.reportAlarms(ctx)
		case now := <-tick.C:
			e.alarms.expire(now)
		case ev := <-e.sights:
			if err := e.record(ctx, ev); err != nil {
				e.Log.ErrorContext(ctx, "evidence not stored", "mac", ev.MAC, "phase", ev.Phase, "err", err)
			}
		}
	}
}

// record keeps a fact about a known node. What strangers do on the wire is
// not stored: anybody can make up MAC addresses. They become nodes when
// their agent says hello.
func (e *Engine) record(ctx context.Context, ev fleet.Evidence) error {
	known, ok := e.NodeByMAC(ev.MAC)
	if !ok {
		return nil
	}
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(known.ID)
		if err != nil {
			return err
		}
		t.event(fleet.EventEvidence, n, "node", string(ev.Phase)+": "+fleet.CleanText(ev.Detail))
		return t.reach(n, ev.Phase)
	})
}

// reach notes that a node got to a phase, in the node and in its run. Phases
// before the one under way are no news: firmware asks twice.
func (t *tx) reach(n fleet.Node, phase fleet.Phase) error {
	if n.Run == "" {
		return nil
	}
	if order(phase) > order(n.Phase) && n.State == fleet.Installing {
		n.Phase, n.Progress = phase, 0
		t.put(n)
	}
	return t.runNode(n.Run, n.ID, func(rn *fleet.RunNode) {
		seen := slices.ContainsFunc(rn.Times, func(p fleet.PhaseTime) bool { return p.Phase == phase })
		if !seen && rn.State == fleet.RunRunning {
			rn.Times = append(rn.Times, fleet.PhaseTime{Phase: phase, At: t.now})
		}
	})
}

// order returns the place of a phase in a boot, from 1; 0 for none.
func order(p fleet.Phase) int { return slices.Index(fleet.Phases(), p) + 1 }
