package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A machine that somebody has in hand is left alone by everybody else: one whose
// firmware is being written may never start again when it is switched off. Each
// of these things ends by itself, so that nobody has to end it: a machine that
// is to be switched off all the same is switched off at its BMC.
//
// Runs that start meanwhile skip such a machine, with the reason, for that takes
// long and may end badly. A power order, or a change of its BMC's account, takes a
// minute, and the run waits for it.

// A handling is something that is done to a node by hand.
type handling int

const (
	handSwitch   handling = iota // its power, or what it boots
	handCheck                    // of its BMC, with the power as it is
	handPower                    // a check of its BMC that switches it
	handFirmware                 // is written
	handSetup                    // of its firmware: BIOS settings
)

// says what is being done.
func (h handling) says() string {
	return map[handling]string{
		handSwitch:   "it is being switched",
		handCheck:    "its BMC is being checked",
		handPower:    "its BMC is being checked, with power",
		handFirmware: "its firmware is being updated",
		handSetup:    "its BIOS settings are being changed",
	}[h]
}

// hint says how it ends.
func (h handling) hint(node string) string {
	switch h {
	case handFirmware:
		return "do not switch it off, or it may never start again; how far it is: provision bmc update --dry-run " + node
	case handSetup:
		return fmt.Sprintf("wait until it shows them, %s at most: provision bmc bios %s", inMinutes(biosWithin), node)
	case handPower, handCheck:
		return fmt.Sprintf("wait until that check is over, %s at most: provision nodes show %s", inMinutes(checkWithin), node)
	default:
		return "wait until that is done: provision nodes show " + node
	}
}

func inMinutes(d time.Duration) string { return fmt.Sprintf("%d minutes", int(d.Minutes())) }

// alone reports whether nothing else is done to the node meanwhile, by runs either.
func (h handling) alone() bool { return h == handPower || h == handFirmware || h == handSetup }

// beside reports whether two things may be done to a node at the same time. Its BMC
// hears one order after the other.
func (h handling) beside(o handling) bool {
	switches := func(h, o handling) bool { return h == handSwitch && (o == handSwitch || o == handCheck) }
	return switches(h, o) || switches(o, h)
}

// A hand is somebody's, on a node.
type hand struct {
	does  handling
	actor string
	since time.Time
	over  chan struct{}
}

// String says who does what.
func (h *hand) String() string {
	return fmt.Sprintf("%s by %s, since %s", h.does.says(), h.actor, h.since.UTC().Format("15:04 UTC"))
}

// hands are all of them. They are in memory: what they do ends with the server,
// but for a BMC that goes on with its task by itself.
type hands struct {
	mu sync.Mutex
	on map[fleet.NodeID][]*hand
}

func newHands() *hands { return &hands{on: map[fleet.NodeID][]*hand{}} }

// find returns one that fits.
func (s *hands) find(id fleet.NodeID, fits func(*hand) bool) *hand {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.on[id], fits); i >= 0 {
		return s.on[id][i]
	}
	return nil
}

// put puts one on a node, until letGo is called.
func (s *hands) put(id fleet.NodeID, does handling, actor string) (letGo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &hand{does: does, actor: actor, since: time.Now(), over: make(chan struct{})}
	s.on[id] = append(s.on[id], h)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.on[id] = slices.DeleteFunc(s.on[id], func(o *hand) bool { return o == h })
		if len(s.on[id]) == 0 {
			delete(s.on, id)
		}
		close(h.over)
	})
}

// inHand says what is being done to a node by hand that a run would disturb, and
// that would disturb a run; "" is nothing.
func (e *Engine) inHand(id fleet.NodeID) string {
	if h := e.hands.find(id, func(h *hand) bool { return h.does.alone() }); h != nil {
		return h.String()
	}
	return ""
}

// signsIn reports whether a node's BMC is being checked, or its machine switched,
// with the password that it has. Firmware and BIOS settings take long, and go on
// with a new one.
func (e *Engine) signsIn(id fleet.NodeID) bool {
	return e.hands.find(id, func(h *hand) bool { return h.does == handCheck || h.does == handPower || h.does == handSwitch }) != nil
}

// takeInHand takes a node for what is done by hand, until letGo is called; or it
// says why not: a run has it, or it is in other hands. A run takes its nodes under
// the same lock.
func (e *Engine) takeInHand(n fleet.Node, op, actor string, does handling) (letGo func(), err error) {
	e.writing.Lock()
	defer e.writing.Unlock()
	if err := e.mayTake(n, op, does.beside); err != nil {
		return nil, err
	}
	over := e.hands.put(n.ID, does, actor)
	return func() {
		over()
		e.links.of(n.ID).nudge() // its agent may go to standby now
	}, nil
}

// mayTake says why a node cannot be taken for something that is done to it beside
// some things, and no others. The caller holds the lock.
func (e *Engine) mayTake(n fleet.Node, op string, beside func(handling) bool) error {
	if now, ok := e.world.node(n.ID); ok {
		n = now
	}
	if n.Run != "" {
		return runHasIt(n, op)
	}
	other := e.hands.find(n.ID, func(h *hand) bool { return !beside(h.does) })
	if other == nil {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeBMCBusy, Op: op, On: "node " + n.Title(), Err: fmt.Errorf("%s", other), Hint: other.does.hint(n.Title()),
	}
}

func runHasIt(n fleet.Node, op string) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: "E-RUN-ACTIVE", Op: op, On: "node " + n.Title(), Err: fmt.Errorf("run %s works on it", n.Run),
		Hint: "wait for the run: provision runs watch " + string(n.Run),
	}
}

// asItIs returns a node as it is now: what is asked of its BMC may take an hour,
// and who has a new machine's BMC in hand changes its account meanwhile.
func (e *Engine) asItIs(n fleet.Node) fleet.Node {
	if now, ok := e.world.node(n.ID); ok {
		return now
	}
	return n
}

// allInHand is [Engine.inHand] of the nodes that no run has.
func (e *Engine) allInHand(nodes []fleet.Node) map[fleet.NodeID]string {
	all := map[fleet.NodeID]string{}
	for _, n := range nodes {
		if why := e.inHand(n.ID); why != "" && n.Run == "" {
			all[n.ID] = why
		}
	}
	return all
}

// awaitHands waits until nobody switches a node any more, nor changes the account of
// its BMC.
func (e *Engine) awaitHands(ctx context.Context, id fleet.NodeID) {
	for {
		h := e.hands.find(id, func(h *hand) bool { return h.does == handSwitch })
		if h == nil {
			break
		}
		select {
		case <-h.over:
		case <-ctx.Done():
			return
		}
	}
	if c := e.enrolments.change(id); c != nil && !c.ramdisk { // beside which a run goes on
		c.await(ctx)
	}
}

// awaitAccountOf is [Engine.awaitAccount] for an order that begins with a question.
func (e *Engine) awaitAccountOf(ctx context.Context, ref string) {
	if n, err := e.Node(ref); err == nil {
		e.awaitAccount(ctx, n.ID)
	}
}

// awaitAccount waits until nobody changes the account of a node's BMC any more.
func (e *Engine) awaitAccount(ctx context.Context, id fleet.NodeID) {
	if c := e.enrolments.change(id); c != nil {
		c.await(ctx)
	}
}
