package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// errRestarted ends a step whose agent went away and came back as another
// start: the machine was restarted under our hands.
var errRestarted = errors.New("the machine restarted meanwhile")

// A link is our end of one node's agent. Agents only ever call us; a step is
// laid here and taken by the next poll.
type link struct {
	mu      sync.Mutex
	session fleet.Session
	seen    time.Time
	asked   time.Time // when its machine last asked for something of its boot, since the server started
	fed     time.Time // when its machine had the whole ramdisk, since it was last switched on
	call    *call
	wake    chan struct{} // closed and replaced when something changed
	turn    chan struct{} // one token: one step at a time
}

// A call is a step that waits for its report.
type call struct {
	step      fleet.Step
	installed bool   // meant for the installed system
	boot      string // boot ID of the session that took it; "" before
	report    chan fleet.StepReport
	progress  func(percent int)
}

type links struct {
	mu sync.Mutex
	m  map[fleet.NodeID]*link
}

func newLinks() *links { return &links{m: map[fleet.NodeID]*link{}} }

func (ls *links) of(id fleet.NodeID) *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[id]
	if l == nil {
		l = &link{wake: make(chan struct{}), turn: make(chan struct{}, 1)}
		ls.m[id] = l
	}
	return l
}

// changed wakes whoever waits on the link; the caller holds mu.
func (l *link) changed() {
	close(l.wake)
	l.wake = make(chan struct{})
}

// nudge has the node's agent look again for what it may do.
func (l *link) nudge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed()
}

// Poll is an agent asking for its next step, with a report on the one under
// way. It waits until there is a step or ctx is done; then both are nil.
func (e *Engine) Poll(ctx context.Context, s fleet.Session, r *fleet.StepReport) (*fleet.Step, error) {
	n, ok := e.world.node(s.Node)
	if !ok {
		return nil, unknownNode(string(s.Node))
	}
	l := e.links.of(s.Node)
	if err := l.admits(n, s); err != nil {
		return nil, err
	}
	l.meet(s)
	e.heard(s.Node)
	e.alive("", s.Node)
	if err := e.moved(ctx, n, s); err != nil {
		return nil, err
	}
	if r != nil {
		l.take(*r)
	}
	for {
		n, _ = e.world.node(n.ID)
		changed := e.world.watch()
		step, wake := l.next(s)
		waits := e.enrolBMC(n, s) //nolint:contextcheck // it outlives the poll
		if step == nil && !waits && !e.enrolments.changes(n.ID) && e.inHand(n.ID) == "" {
			step = standby(n, s)
		}
		if step != nil {
			return step, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-wake:
		case <-changed:
		}
	}
}

// admits refuses an agent of the ramdisk that is not the one that said hello
// last, or whose node runs its installed system by now: its certificate may
// still be good, its time is over.
func (l *link) admits(n fleet.Node, s fleet.Session) error {
	if s.Installed {
		return nil
	}
	l.mu.Lock()
	up := l.session.Installed
	l.mu.Unlock()
	if s.BootID == n.BootID && (!n.State.HasSystem() || n.State == fleet.Installed && !up) {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Denied, Code: "E-BOOT-OVER", Op: "poll", On: "node " + n.Title(), Err: errors.New("this boot of the ramdisk is over"),
		Hint: "restart the machine",
	}
}

// heard notes that a node's agent is alive. Like progress it is not stored: it
// comes several times a minute, from every node.
func (e *Engine) heard(id fleet.NodeID) {
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	if n, ok := e.world.nodes[id]; ok {
		n.LastSeen = time.Now()
		e.world.nodes[id] = n
	}
}

// moved notes that a node calls from another address than before. A link-local
// one is none: a system that knows its link already and has no IPv6 address
// yet calls from there, and nobody else can reach it by that.
func (e *Engine) moved(ctx context.Context, n fleet.Node, s fleet.Session) error {
	if !s.Addr.IsValid() || s.Addr == n.Addr || s.Addr.IsLinkLocalUnicast() {
		return nil
	}
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(n.ID)
		if err != nil {
			return err
		}
		n.Addr, n.LastSeen = s.Addr, t.now
		t.put(n)
		return nil
	})
}

// meet notes who is at the other end.
func (l *link) meet(s fleet.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = time.Now()
	if l.session.BootID != s.BootID || l.session.Installed != s.Installed {
		l.session = s
		l.changed()
	}
}

// feed notes that the link's machine has got its whole ramdisk; the zero time is
// for one that has just been switched on.
func (l *link) feed(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fed = at
	l.changed()
}

// endWhenSilent cancels when the machine has had its ramdisk for so long that
// its agent should have spoken, or returns when ctx is done.
func (l *link) endWhenSilent(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		l.mu.Lock()
		fed, wake := l.fed, l.wake
		l.mu.Unlock()
		var late <-chan time.Time
		if !fed.IsZero() {
			late = time.After(time.Until(fed.Add(agentWithin)))
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-late:
			cancel(fmt.Errorf("silent for %s since it got its ramdisk", agentWithin))
			return
		}
	}
}

// take hands a report to whoever waits for it. Reports on steps that nobody
// waits for any more are dropped: the agent repeats them when asked again.
func (l *link) take(r fleet.StepReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.call
	if c == nil || c.step.ID != r.StepID {
		return
	}
	if r.State == fleet.StepRunning {
		c.boot = l.session.BootID
		if c.progress != nil {
			c.progress(r.Progress)
		}
		return
	}
	l.call = nil
	c.report <- r
}

// next returns the step that is meant for s, or the channel to wait on.
func (l *link) next(s fleet.Session) (*fleet.Step, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.call; c != nil && c.installed == s.Installed && l.session.BootID == s.BootID && (c.boot == "" || c.boot == s.BootID) {
		c.boot = s.BootID
		step := c.step
		return &step, l.wake
	}
	return nil, l.wake
}

// standby is what an agent in the ramdisk does when no run works on its node:
// an approved machine whose power we control is switched off, one that is to
// boot the rescue system restarts; any other waits.
func standby(n fleet.Node, s fleet.Session) *fleet.Step {
	if !s.Installed && n.State == fleet.Rescue {
		return &fleet.Step{ID: "rescue/" + s.BootID, Kind: fleet.StepReboot}
	}
	if s.Installed || n.Run != "" || n.State != fleet.Ready || !n.BMC.Usable() || n.BMC.Via() == fleet.DriverManual {
		return nil
	}
	return &fleet.Step{ID: "standby/" + s.BootID, Kind: fleet.StepPowerOff}
}

// do has the node's agent carry out a step and returns its report. It waits
// for its turn: an agent does one thing at a time. A failed step is an error
// with the agent's code.
func (e *Engine) do(ctx context.Context, id fleet.NodeID, step fleet.Step, installed bool) (fleet.StepReport, error) {
	l := e.links.of(id)
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return fleet.StepReport{}, context.Cause(ctx)
	}
	c := &call{
		step: step, installed: installed, report: make(chan fleet.StepReport, 1),
		progress: func(p int) { e.progress(id, p) },
	}
	l.lay(c)
	defer l.clear(c)
	for {
		restarted, wake := l.lost(c)
		select {
		case r := <-c.report:
			return r, reportError(step, r)
		default:
		}
		if restarted {
			return fleet.StepReport{}, errRestarted
		}
		select {
		case r := <-c.report:
			return r, reportError(step, r)
		case <-ctx.Done():
			return fleet.StepReport{}, context.Cause(ctx)
		case <-wake:
		}
	}
}

func (l *link) lay(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call = c
	l.changed()
}

func (l *link) clear(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.call == c {
		l.call = nil
	}
}

// lost reports whether the session that took the step is gone.
func (l *link) lost(c *call) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.boot != "" && c.boot != l.session.BootID, l.wake
}

// await returns when the node's agent is one that ok accepts.
func (e *Engine) await(ctx context.Context, id fleet.NodeID, ok func(s fleet.Session, seen time.Time) bool) error {
	l := e.links.of(id)
	for {
		l.mu.Lock()
		s, seen, wake := l.session, l.seen, l.wake
		l.mu.Unlock()
		if s.BootID != "" && ok(s, seen) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wake:
		}
	}
}

// session returns who was last at the other end of a node's link.
func (e *Engine) session(id fleet.NodeID) fleet.Session {
	l := e.links.of(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

func reportError(step fleet.Step, r fleet.StepReport) error {
	if r.State == fleet.StepDone {
		return nil
	}
	code := r.Failure.Code
	if code == "" {
		code = "E-AGENT"
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.Code(fleet.CleanText(string(code))), Op: string(step.Kind),
		Err: errors.New(fleet.CleanText(r.Failure.Text)), Hint: fleet.CleanText(r.Failure.Hint),
	}
}

// progress shows how far a phase is. It is not stored: it comes every second.
func (e *Engine) progress(id fleet.NodeID, percent int) {
	percent = min(max(percent, 0), 100)
	e.world.mu.Lock()
	n, ok := e.world.nodes[id]
	if ok && n.Progress != percent {
		n.Progress = percent
		e.world.nodes[id] = n
	} else {
		ok = false
	}
	e.world.mu.Unlock()
	if ok {
		e.bus.publish(fleet.Event{At: time.Now(), Type: fleet.EventProgress, Node: id, Pool: n.Pool, Run: n.Run, Text: string(n.Phase)})
	}
}

// Docker has a node's agent pass one request to its local Docker engine.
func (e *Engine) Docker(ctx context.Context, id fleet.NodeID, r fleet.DockerRequest) (fleet.DockerResponse, error) {
	_, hash := fleet.NewSecret()
	step := fleet.Step{ID: "docker/" + fleet.ShortHash(hash), Kind: fleet.StepDocker, Docker: &r}
	report, err := e.do(ctx, id, step, true)
	if err != nil {
		return fleet.DockerResponse{}, err
	}
	if report.Docker == nil {
		return fleet.DockerResponse{}, &fleet.Error{Kind: fleet.Internal, Op: "ask Docker on node " + string(id), Err: errors.New("the agent sent no answer")}
	}
	return *report.Docker, nil
}
