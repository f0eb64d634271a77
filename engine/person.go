package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/fleet"
)

// How long is waited for what has no BMC.
const (
	personWithin = 10 * time.Minute // for a person whom somebody at the command line asks
	runWithin    = 30 * time.Minute // for a person whom a run asks
	wakeWithin   = 5 * time.Minute  // for a sign of life after a magic packet: servers test their memory first
	aliveFor     = time.Minute      // after its agent's last word
)

// wishes are what we wait for from machines without a BMC: that a person does
// something to them, or that they give a sign of life.
type wishes struct {
	mu    sync.Mutex
	open  map[fleet.NodeID]*wish
	count atomic.Int64 // of the open ones: facts of boots come fast
}

// A wish is one of them. Each node has one at most: a later one takes the place
// of an earlier one.
type wish struct {
	node  fleet.Node
	text  string // what a person is asked to do; "" when nobody is
	alive bool   // a sign of life grants it
	until time.Time
	done  chan struct{} // closed when it is granted, or of no interest any more
	over  bool
	said  bool // a person said that it is done
}

func newWishes() *wishes { return &wishes{open: map[fleet.NodeID]*wish{}} }

func (s *wishes) add(w *wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.open[w.node.ID]; old != nil {
		s.end(old)
	}
	w.done = make(chan struct{})
	s.open[w.node.ID] = w
	s.count.Add(1)
}

// end takes a wish away; the caller holds mu.
func (s *wishes) end(w *wish) {
	if w.over {
		return
	}
	w.over = true
	close(w.done)
	delete(s.open, w.node.ID)
	s.count.Add(-1)
}

// withdraw takes a wish away that nobody waits for any more.
func (s *wishes) withdraw(w *wish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(w)
}

// grant ends the wish of a node, when there is one that this grants.
func (s *wishes) grant(mac fleet.MAC, id fleet.NodeID, said bool) (*wish, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.open {
		if w.node.ID == id || mac != "" && (w.node.MAC == mac || slices.Contains(w.node.MACs, mac)) {
			if !said && !w.alive {
				return nil, false
			}
			w.said = said
			s.end(w)
			return w, true
		}
	}
	return nil, false
}

func (s *wishes) all() []*wish {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*wish
	for _, w := range s.open {
		all = append(all, w)
	}
	return all
}

// alive is told of every sign of life that machines give.
func (e *Engine) alive(mac fleet.MAC, id fleet.NodeID) {
	if e.wishes.count.Load() == 0 {
		return
	}
	if w, ok := e.wishes.grant(mac, id, false); ok && w.text != "" {
		e.Clear(fleet.CodePowerManual, w.node.Title())
	}
}

// remindPeople raises the alarms of open wishes again, and takes those away
// whose time is up.
func (e *Engine) remindPeople(now time.Time) {
	for _, w := range e.wishes.all() {
		if now.After(w.until) {
			e.wishes.withdraw(w)
			e.Clear(fleet.CodePowerManual, w.node.Title())
			continue
		}
		if w.text != "" {
			e.Raise(fleet.CodePowerManual, w.node.Title(), w.text)
		}
	}
}

// ask has a person do something to a machine: an alarm stands until it is done.
func (e *Engine) ask(n fleet.Node, text string, alive bool, within time.Duration) *wish {
	w := &wish{node: n, text: text, alive: alive, until: time.Now().Add(within)}
	e.wishes.add(w)
	if text != "" {
		e.Raise(fleet.CodePowerManual, n.Title(), text)
	}
	return w
}

// granted waits until a wish is granted.
func (e *Engine) granted(ctx context.Context, w *wish) error {
	ctx, cancel := context.WithDeadline(ctx, w.until)
	defer cancel()
	defer func() {
		e.wishes.withdraw(w)
		if w.text != "" {
			e.Clear(fleet.CodePowerManual, w.node.Title())
		}
	}()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	if w.text == "" {
		return &fleet.Error{
			Kind: fleet.Unreachable, Code: fleet.CodeWakeSilent, Op: "wake", On: "node " + w.node.Title(), Err: errors.New("it gave no sign of life"),
			Hint: fleet.Diagnose(fleet.CodeWakeSilent).FixFor(w.node.Title()),
		}
	}
	return &fleet.Error{
		Kind: fleet.Unreachable, Code: fleet.CodePowerManual, Op: "ask a person", On: "node " + w.node.Title(), Err: fmt.Errorf("nobody said that it is done: %s", w.text),
		Hint: "do it, and then say so: provision power done " + w.node.Title(),
	}
}

// PowerDone says that a person has done what was asked of a node.
func (e *Engine) PowerDone(ctx context.Context, actor, ref string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	w, ok := e.wishes.grant("", n.ID, true)
	if !ok || w.text == "" {
		return n, &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodePowerManual, Op: "power done", On: "node " + n.Title(), Err: errors.New("nothing was asked of anybody"),
			Hint: "ask for it: provision power on " + n.Title(),
		}
	}
	e.Clear(fleet.CodePowerManual, n.Title())
	return n, e.update(ctx, func(t *tx) error {
		t.event(fleet.EventPower, n, actor, "done by hand: "+w.text)
		return nil
	})
}

// lives reports whether the agent of a node has said something lately.
func (e *Engine) lives(id fleet.NodeID) bool {
	l := e.links.of(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session.BootID != "" && time.Since(l.seen) < aliveFor
}

// byHand are the words for a person.
var byHand = map[fleet.PowerOp]string{
	fleet.PowerOn: "switch it on", fleet.PowerOff: "switch it off", fleet.PowerSoft: "shut it down",
	fleet.PowerCycle: "switch it off and on again", fleet.PowerReset: "restart it", fleet.PowerNMI: "press its NMI button",
	fleet.PXENext: "have it boot from the network at its next start", fleet.DiskNext: "have it boot from its disk at its next start",
	fleet.CDROMNext: "have it boot from the CD at its next start", fleet.SetupNext: "enter its firmware's setup at its next start",
	fleet.HTTPNext: "have it boot by UEFI HTTP at its next start",
}

// switchByHand switches a machine that a person switches, or that can be woken
// and no more. A sign of life shows that it is on; that it is off nobody but a
// person can say.
func (e *Engine) switchByHand(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	before := fleet.PowerIsUnknown
	if e.lives(n.ID) {
		before = fleet.PowerIsOn
	}
	done := fleet.Switched{Before: before, After: before}
	text, known := byHand[o.Op]
	switch {
	case o.Op == fleet.PowerStatus, o.Op == fleet.PowerOn && before == fleet.PowerIsOn:
		return done, nil
	case !known:
		return done, fleet.Invalidf("power operation "+string(o.Op), "see: provision power --help", errors.New("unknown"))
	case n.BMC.Via() == fleet.DriverWOL && o.Op == fleet.PowerOn:
		done.After = fleet.PowerIsOn
		return done, e.wake(ctx, n, o)
	}
	starts := o.Op == fleet.PowerOn // after the others a sign of life may come from before
	if err := e.granted(ctx, e.ask(n, text, starts, personWithin)); err != nil {
		return done, err
	}
	done.After = map[fleet.PowerOp]fleet.PowerState{
		fleet.PowerOn: fleet.PowerIsOn, fleet.PowerCycle: fleet.PowerIsOn, fleet.PowerReset: fleet.PowerIsOn,
		fleet.PowerOff: fleet.PowerIsOff, fleet.PowerSoft: fleet.PowerIsOff,
	}[o.Op]
	return done, nil
}

// wake sends a magic packet until the machine gives a sign of life.
func (e *Engine) wake(ctx context.Context, n fleet.Node, o fleet.PowerOrder) error {
	const again = 10 * time.Second
	w := e.ask(n, "", true, wakeWithin)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan error, 1)
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			_, err := e.Options.Power.Switch(ctx, n, o)
			select {
			case first <- err:
			default: // only whether the first could be sent is of interest
			}
			if err != nil || rest(ctx, again) != nil {
				return
			}
		}
	})
	defer sending.Wait()
	defer cancel()
	if err := <-first; err != nil {
		e.wishes.withdraw(w)
		return err
	}
	return e.granted(ctx, w)
}

// startByHand has the machine of a run boot from the network. The run does not
// wait here: its next phase does, for the agent.
func (j job) startByHand(ctx context.Context, n fleet.Node) error {
	l := j.e.links.of(j.node)
	l.mu.Lock()
	before := l.session
	standsBy := before.BootID != "" && !before.Installed && time.Since(l.seen) < aliveFor
	l.mu.Unlock()
	if standsBy {
		return j.reached(ctx, fleet.PhasePower)
	}
	lives := j.e.lives(n.ID)
	l.forget(before) // it is the next one that is waited for
	l.feed(time.Time{})
	if n.BMC.Via() == fleet.DriverWOL && !lives && !j.again { // one that is on is not woken
		if err := j.e.wake(ctx, n, fleet.PowerOrder{Op: fleet.PowerOn}); err != nil {
			return err
		}
		return j.reached(ctx, fleet.PhasePower)
	}
	// What an agent says that is there already is no sign that it was restarted.
	j.e.ask(n, "start it from the network: switch it off, if it is on, and on", !lives, runWithin)
	return j.reached(ctx, fleet.PhasePower)
}
