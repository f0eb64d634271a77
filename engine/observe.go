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

// sightsAtOnce is how many facts are stored in one change, at most: a rack
// that is switched on brings them faster than a disk writes one by one.
const sightsAtOnce = 256

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
		case first := <-e.sights:
			if err := e.record(ctx, e.waiting(first)); err != nil {
				e.Log.ErrorContext(ctx, "evidence not stored", "mac", first.MAC, "phase", first.Phase, "err", err)
			}
		}
	}
}

// waiting returns the facts that are in the queue, from the first one on.
func (e *Engine) waiting(first fleet.Evidence) []fleet.Evidence {
	facts := []fleet.Evidence{first}
	for len(facts) < sightsAtOnce {
		select {
		case ev := <-e.sights:
			facts = append(facts, ev)
		default:
			return facts
		}
	}
	return facts
}

// record keeps facts about known nodes. What strangers do on the wire is
// not stored: anybody can make up MAC addresses. They become nodes when
// their agent says hello.
func (e *Engine) record(ctx context.Context, facts []fleet.Evidence) error {
	facts = slices.DeleteFunc(facts, func(ev fleet.Evidence) bool {
		_, known := e.NodeByMAC(ev.MAC)
		if !known && ev.Place != (fleet.Place{}) {
			e.places.note(ev.MAC, ev.Place)
		}
		return !known
	})
	if len(facts) == 0 {
		return nil
	}
	return e.update(ctx, func(t *tx) error {
		for _, ev := range facts {
			known, _ := e.NodeByMAC(ev.MAC)
			n, err := t.node(known.ID)
			if err != nil {
				continue // another node has the address by now
			}
			if ev.Whole {
				e.links.of(n.ID).feed(t.now)
			}
			t.event(fleet.EventEvidence, n, "node", string(ev.Phase)+": "+fleet.CleanText(ev.Detail))
			if at := ev.Place; at != (fleet.Place{}) && at != n.Place && ev.MAC == n.MAC {
				n.Place = at
				t.put(n)
			}
			if err := t.reach(n, ev.Phase); err != nil {
				return err
			}
		}
		return nil
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
