package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/throttle"
)

// Observe reports a fact of a boot. It never blocks: what does not fit into
// the queue is counted and dropped. It returns false for a machine of which too
// many facts have come lately: a boot has a dozen, and who asks for its script
// all day, or in another's name, must not fill the disk with it.
func (e *Engine) Observe(ev fleet.Evidence) bool {
	e.alive(ev.MAC, "")
	known := e.knows(ev.MAC)
	if known && !e.hearing.allow(ev.MAC) {
		e.tooMany.Add(1)
		return false
	}
	if !known && ev.Place == (fleet.Place{}) {
		return true // a stranger, of whom nothing is kept
	}
	select {
	case e.sights <- ev:
	default:
		e.dropped.Add(1)
	}
	return true
}

// Dropped returns how many facts did not fit into the queue.
func (e *Engine) Dropped() int64 { return e.dropped.Load() }

// TooMany returns how many facts were not kept because their machine had too
// many of them.
func (e *Engine) TooMany() int64 { return e.tooMany.Load() }

// Facts that are kept of one machine: those of ten boots, and then one a second.
const (
	heardAtOnce = 120
	heardEvery  = time.Second
)

// A hearing limits how many facts are kept of each machine.
type hearing struct {
	begin time.Time
	mu    sync.Mutex
	gate  *throttle.Gate[fleet.MAC]
}

func newHearing() *hearing {
	return &hearing{begin: time.Now(), gate: throttle.NewGate[fleet.MAC](heardAtOnce, heardEvery)}
}

func (h *hearing) allow(mac fleet.MAC) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gate.Allow(mac, time.Since(h.begin))
}

// How facts are stored: as many as there are in one change, which is one write
// to the disk. When they come fast, they are waited for, a moment.
const (
	sightsAtOnce = 256
	sightsMany   = 16
	sightsMoment = 50 * time.Millisecond
)

// takeReports stores what the wires report: sightings and alarms.
func (e *Engine) takeReports(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	many := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.alarms.wake:
			e.reportAlarms(ctx)
		case now := <-tick.C:
			e.alertFindings(now)
			e.alarms.expire(now)
			e.remindPins()
			e.remindPeople(now)
		case first := <-e.sights:
			facts := e.waiting(first, many)
			many = len(facts) >= sightsMany
			if err := e.record(ctx, facts); err != nil {
				e.Log.ErrorContext(ctx, "evidence not stored", "mac", first.MAC, "phase", first.Phase, "err", err)
			}
		}
	}
}

// waiting returns the facts that are in the queue, from the first one on; when
// there are many, those that come within a moment too.
func (e *Engine) waiting(first fleet.Evidence, many bool) []fleet.Evidence {
	var moment <-chan time.Time
	if many {
		moment = time.After(sightsMoment)
	}
	facts := []fleet.Evidence{first}
	for len(facts) < sightsAtOnce {
		select {
		case ev := <-e.sights:
			facts = append(facts, ev)
			continue
		default:
		}
		if moment == nil {
			return facts
		}
		select {
		case ev := <-e.sights:
			facts = append(facts, ev)
		case <-moment:
			moment = nil
		}
	}
	return facts
}

// record keeps facts about known nodes. What strangers do on the wire is
// not stored: anybody can make up MAC addresses. They become nodes when
// their agent says hello. Of a node that no run works on, what it did a moment
// ago is no news: firmware asks again when an answer is late.
func (e *Engine) record(ctx context.Context, facts []fleet.Evidence) error {
	facts = slices.DeleteFunc(facts, func(ev fleet.Evidence) bool {
		n, known := e.NodeByMAC(ev.MAC)
		if !known && ev.Place != (fleet.Place{}) {
			e.places.note(ev.MAC, ev.Place)
		}
		return !known || n.Run == "" && e.said.again(fact{ev.MAC, ev.Phase, ev.Detail, ev.Place}, time.Now())
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
			l := e.links.of(n.ID)
			l.hear(t.now)
			if ev.Whole {
				l.feed(t.now)
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
	if n.Run == "" || t.setup(n) && !phase.Setup() {
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

// setup reports whether a node's run sees to its firmware and BIOS settings:
// what boots meanwhile is not the boot that installs it.
func (t *tx) setup(n fleet.Node) bool {
	r, err := t.run(n.Run)
	if err != nil {
		return false
	}
	i := slices.IndexFunc(r.Nodes, func(rn fleet.RunNode) bool { return rn.Node == n.ID })
	return i >= 0 && r.Nodes[i].Phase.Setup()
}

// order returns the place of a phase in a boot, from 1; 0 for none.
func order(p fleet.Phase) int { return slices.Index(fleet.Phases(), p) + 1 }
