package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// An Examiner reads what BMCs say about their machines. It gives way to
// whatever else is said to a BMC, with the code E-BMC-BUSY.
type Examiner interface {
	Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error)
	ClearLog(ctx context.Context, n fleet.Node) error
}

// Checkups keeps what was read.
type Checkups interface {
	Checkups(ctx context.Context) ([]fleet.Checkup, error)
	SaveCheckup(ctx context.Context, c fleet.Checkup) error
}

// How BMCs are asked: each in turn, some at a time, and never all at once.
const (
	usualRound  = 10 * time.Minute
	roundTick   = time.Second
	atOnce      = 16
	firstWithin = 30 * time.Second // after a node got its BMC
	againAfter  = 30 * time.Second // when it gave way
	longestWait = time.Hour        // for a BMC that is silent
	hardwareAge = 24 * time.Hour   // of what seldom changes
)

// rounds are the checkups of all nodes, and when the next ones are.
type rounds struct {
	every time.Duration

	mu   sync.Mutex
	last map[fleet.NodeID]fleet.Checkup
	due  map[fleet.NodeID]time.Time
	busy map[fleet.NodeID]bool
}

func newRounds(every time.Duration) *rounds {
	if every == 0 {
		every = usualRound
	}
	return &rounds{every: every, last: map[fleet.NodeID]fleet.Checkup{}, due: map[fleet.NodeID]time.Time{}, busy: map[fleet.NodeID]bool{}}
}

// next returns the nodes whose turn it is, those that wait longest first, and
// marks them as being asked.
func (r *rounds) next(nodes []fleet.Node, now time.Time) (turn []fleet.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range nodes {
		if !examinable(n) || r.busy[n.ID] {
			continue
		}
		due, planned := r.due[n.ID]
		if !planned {
			due = now.Add(rand.N(r.first(n.ID))) //nolint:gosec // spreads the load
			r.due[n.ID] = due
		}
		if !due.After(now) {
			turn = append(turn, n)
		}
	}
	slices.SortFunc(turn, func(a, b fleet.Node) int { return r.due[a.ID].Compare(r.due[b.ID]) })
	turn = turn[:min(len(turn), max(0, atOnce-len(r.busy)))]
	for _, n := range turn {
		r.busy[n.ID] = true
	}
	return turn
}

// first is within which time a node is asked first. After a restart there is no
// hurry: what is known is still there.
func (r *rounds) first(id fleet.NodeID) time.Duration {
	if r.last[id].At.IsZero() {
		return min(r.every, firstWithin)
	}
	return r.every
}

// done plans the next turn of a node.
func (r *rounds) done(id fleet.NodeID, now time.Time, gaveWay bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, id)
	if r.every < 0 { // no rounds
		return
	}
	wait := r.every
	for range min(r.last[id].Failed, 8) {
		wait *= 2
	}
	if gaveWay {
		wait = againAfter
	}
	wait = min(wait, max(longestWait, r.every))
	r.due[id] = now.Add(wait - wait/10 + rand.N(wait/5+1)) //nolint:gosec // spreads the load
}

// soon plans the next turn of a node whose BMC has a question open.
func (r *rounds) soon(id fleet.NodeID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due[id] = now.Add(againAfter)
}

func (r *rounds) get(id fleet.NodeID) fleet.Checkup {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[id]
}

func (r *rounds) put(c fleet.Checkup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[c.Node] = c
}

// examinable reports whether a node's BMC can be asked, and may be now.
func examinable(n fleet.Node) bool {
	via := n.BMC.Via()
	speaks := via.Web() || via == fleet.DriverIPMI || via == fleet.DriverIPMITool
	return speaks && n.BMC.Address != "" && n.Run == "" && n.State != fleet.Retired && n.BMC.NewPin == ""
}

// loadCheckups brings back what BMCs said before the server was restarted.
func (e *Engine) loadCheckups(ctx context.Context) error {
	if e.Checkups == nil {
		return nil
	}
	all, err := e.Checkups.Checkups(ctx)
	for _, c := range all {
		e.rounds.put(c)
	}
	return err
}

// doRounds asks all BMCs, again and again.
func (e *Engine) doRounds(ctx context.Context) {
	if e.Examiner == nil || e.rounds.every < 0 {
		return
	}
	tick := time.NewTicker(roundTick)
	defer tick.Stop()
	var asking sync.WaitGroup
	defer asking.Wait()
	var rest time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Before(rest) {
				continue
			}
			for _, n := range e.rounds.next(e.nodesThat(examinable), now) {
				asking.Go(func() { e.visit(ctx, n) })
			}
			rest = now.Add(50 * time.Since(now)) // looking for them takes a fiftieth of a core at most
		}
	}
}

func (e *Engine) visit(ctx context.Context, n fleet.Node) {
	n, err := e.settleOpen(ctx, n)
	if err != nil {
		_, err = e.keepCheckup(ctx, n, fleet.Checkup{}, err)
	} else {
		age := time.Since(e.rounds.get(n.ID).Hardware.At)
		_, err = e.examine(ctx, n, age > hardwareAge)
	}
	e.rounds.done(n.ID, time.Now(), fleet.CodeOf(err) == fleet.CodeBMCBusy)
	if err != nil && ctx.Err() == nil {
		e.Log.DebugContext(ctx, "node not examined", "node", n.ID, "err", err)
	}
}

// examine asks a BMC and keeps what it says, or that it did not answer.
func (e *Engine) examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	found, err := e.Examiner.Examine(ctx, n, all)
	return e.keepCheckup(ctx, n, found, err)
}

func (e *Engine) keepCheckup(ctx context.Context, n fleet.Node, found fleet.Checkup, err error) (fleet.Checkup, error) {
	e.notePin(ctx, n, err)
	before := e.rounds.get(n.ID)
	if ctx.Err() != nil || fleet.CodeOf(err) == fleet.CodeBMCBusy {
		return before, errors.Join(err, ctx.Err())
	}
	now := time.Now().UTC()
	var after fleet.Checkup
	if err != nil {
		after = before.Unanswered(now, err)
	} else {
		after = found.After(before)
		after.Tried = now
	}
	after.Node = n.ID
	if e.Checkups != nil {
		if saved := e.Checkups.SaveCheckup(ctx, after); saved != nil {
			return before, saved
		}
	}
	e.rounds.put(after)
	e.tellCheckup(ctx, n.ID, before, after)
	return after, err
}

// tellCheckup makes findings of what a checkup found, and events of what has
// changed since the one before.
func (e *Engine) tellCheckup(ctx context.Context, id fleet.NodeID, before, after fleet.Checkup) {
	n, ok := e.world.node(id)
	if !ok {
		return
	}
	if b := n.BMC.Checked(after); !reflect.DeepEqual(b.Findings, n.BMC.Findings) {
		e.refine(ctx, id, func(b fleet.BMC) fleet.BMC { return b.Checked(after) })
	}
	news := after.News(before)
	if len(news) == 0 {
		return
	}
	err := e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		for _, text := range news {
			t.event(fleet.EventUnexpected, n, "engine", text)
		}
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "health not recorded", "node", id, "err", err)
	}
}

// Checkup returns what a node's BMC has said last.
func (e *Engine) Checkup(ref string) (fleet.Node, fleet.Checkup, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, fleet.Checkup{}, err
	}
	c := e.rounds.get(n.ID)
	c.Node = n.ID
	return n, c, nil
}

// Examine asks a node's BMC now, for all that it says.
func (e *Engine) Examine(ctx context.Context, ref string) (fleet.Node, fleet.Checkup, error) {
	n, err := e.speakable(ref, "examine")
	if err != nil {
		return n, fleet.Checkup{}, err
	}
	c, err := e.examine(ctx, n, true)
	return n, c, err
}

// ClearBMCLog empties the event log of a node's BMC. What was in it last is
// kept as events.
func (e *Engine) ClearBMCLog(ctx context.Context, actor, ref string) (fleet.Node, fleet.Checkup, error) {
	n, err := e.speakable(ref, "clear event log")
	if err != nil {
		return n, fleet.Checkup{}, err
	}
	before := e.rounds.get(n.ID)
	if err := e.Examiner.ClearLog(ctx, n); err != nil {
		return n, before, err
	}
	text := fmt.Sprintf("event log of the BMC cleared, it had %d entries", before.Log.Total)
	if grave := before.Grave(); grave != "" {
		text += "; " + grave
	}
	err = e.update(context.WithoutCancel(ctx), func(t *tx) error {
		t.event(fleet.EventChanged, n, actor, fleet.CleanText(text))
		return nil
	})
	if err != nil {
		return n, before, err
	}
	c, err := e.examine(ctx, n, false)
	return n, c, err
}

// speakable returns a node whose BMC can be asked.
func (e *Engine) speakable(ref, op string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	if e.Examiner == nil || n.BMC.Address == "" {
		return n, withoutBMC(n, op)
	}
	if via := n.BMC.Via(); via == "" {
		return n, &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeBMCNotProbed, Op: op, On: "node " + n.Title(), Err: errors.New("its BMC was never looked at"),
			Hint: "look at it: provision bmc probe " + strings.TrimSpace(n.Title()),
		}
	}
	return n, nil
}
