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
// all day, or in another's name, must not fill the disk with it. Of a node that
// no run works on, what it did a moment ago is no news: firmware asks again when
// an answer is late.
func (e *Engine) Observe(ev fleet.Evidence) bool {
	e.alive(ev.MAC, "")
	run, known := e.runOn(ev.MAC)
	if !known {
		if ev.Place != (fleet.Place{}) { // else a stranger, of whom nothing is kept
			e.queue(ev)
		}
		return true
	}
	heard, again := e.hearing.hear(ev)
	switch {
	case !heard:
		e.tooMany.Add(1)
	case again && run == "":
	case !e.queue(ev):
		e.hearing.forget(ev)
	}
	return heard
}

func (e *Engine) queue(ev fleet.Evidence) bool {
	select {
	case e.sights <- ev:
		return true
	default:
		e.dropped.Add(1)
		return false
	}
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

// A hearing limits how many facts are kept of each machine, and knows those
// again that come again.
type hearing struct {
	begin time.Time
	mu    sync.Mutex
	gate  *throttle.Gate[fleet.MAC]
	said  *repeats
}

func newHearing() *hearing {
	return &hearing{begin: time.Now(), gate: throttle.NewGate[fleet.MAC](heardAtOnce, heardEvery), said: newRepeats()}
}

// hear reports whether a fact is one of not too many, and whether it was there a
// moment ago.
func (h *hearing) hear(ev fleet.Evidence) (heard, again bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gate.Allow(ev.MAC, now.Sub(h.begin)) {
		return false, false
	}
	return true, h.said.again(factOf(ev), now)
}

// forget is for a fact that was heard and is not kept: when it comes again it is
// news.
func (h *hearing) forget(ev fleet.Evidence) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said.forget(factOf(ev))
}

// How facts are stored: as many as there are in one change, which is one write
// to the disk. When they come fast, a moment passes before they are looked for:
// who looked for each as it comes would be woken as often.
const (
	sightsAtOnce = 256
	sightsMany   = 4
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
	if many && len(e.sights) < sightsAtOnce {
		<-time.After(sightsMoment)
	}
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
		_, known := e.runOn(ev.MAC)
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
			if ev.Phase == "" {
				t.event(fleet.EventEvidence, n, "node", fleet.CleanText(ev.Detail))
				continue
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
