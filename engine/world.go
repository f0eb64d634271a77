package engine

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A world is what the engine knows, in memory. Values in it are never changed
// in place: a change puts a new value, so that what was handed out stays as
// it was.
type world struct {
	mu      sync.RWMutex
	site    fleet.Site
	nodes   map[fleet.NodeID]fleet.Node
	byMAC   map[fleet.MAC]fleet.NodeID
	byName  map[string]fleet.NodeID
	runs    map[fleet.RunID]fleet.Run
	tickets map[[32]byte]fleet.Ticket  // for joining, and for CD images
	hellos  map[fleet.MAC]fleet.Ticket // redeemed last
	medias  map[fleet.MAC]fleet.Ticket // of the CD image that was made last
	swept   time.Time                  // when expired tickets were dropped
	seq     int64
	changed chan struct{} // closed and replaced at each change
}

func newWorld() *world {
	return &world{
		nodes:   map[fleet.NodeID]fleet.Node{},
		byMAC:   map[fleet.MAC]fleet.NodeID{},
		byName:  map[string]fleet.NodeID{},
		runs:    map[fleet.RunID]fleet.Run{},
		tickets: map[[32]byte]fleet.Ticket{},
		hellos:  map[fleet.MAC]fleet.Ticket{},
		medias:  map[fleet.MAC]fleet.Ticket{},
		changed: make(chan struct{}),
	}
}

func (w *world) load(from fleet.World) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.site, w.seq = from.Site, from.LastSeq
	for _, n := range from.Nodes {
		w.index(n)
	}
	for _, r := range from.Runs {
		w.runs[r.ID] = r
	}
	for _, t := range from.Tickets {
		w.keepTicket(t)
	}
}

// index puts a node; the caller holds mu.
func (w *world) index(n fleet.Node) {
	if old, ok := w.nodes[n.ID]; ok {
		delete(w.byName, old.Name)
		for _, m := range slices.Concat(old.MACs, []fleet.MAC{old.MAC}) {
			if w.byMAC[m] == n.ID {
				delete(w.byMAC, m)
			}
		}
	}
	w.nodes[n.ID] = n
	if n.Name != "" {
		w.byName[n.Name] = n.ID
	}
	w.byMAC[n.MAC] = n.ID
	// Its further cards are what the machine itself says: they never take an
	// address away from another node.
	for _, m := range n.MACs {
		if _, taken := w.byMAC[m]; !taken {
			w.byMAC[m] = n.ID
		}
	}
}

// node returns a node by its ID.
func (w *world) node(id fleet.NodeID) (fleet.Node, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	n, ok := w.nodes[id]
	return n, ok
}

// run returns a run by its ID.
func (w *world) run(id fleet.RunID) (fleet.Run, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	r, ok := w.runs[id]
	return r, ok
}

// watch returns a channel that is closed at the next change.
func (w *world) watch() <-chan struct{} {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.changed
}

// apply makes a stored change visible.
func (w *world) apply(c fleet.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Site != nil {
		w.site = *c.Site
	}
	for _, n := range c.Nodes {
		w.index(n)
	}
	for _, r := range c.Runs {
		w.runs[r.ID] = r
	}
	for _, t := range c.Tickets {
		w.keepTicket(t)
	}
	w.seq += int64(len(c.Events))
	w.wake()
}

func (w *world) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// A tx is a change under way: it reads what it has written already, then the
// world. All of it is stored, or none.
type tx struct {
	w       *world
	now     time.Time
	site    *fleet.Site
	nodes   map[fleet.NodeID]fleet.Node
	runs    map[fleet.RunID]fleet.Run
	tickets map[[32]byte]fleet.Ticket
	events  []fleet.Event
}

// update decides one change and stores it. fn sees a consistent world: there
// is one writer at a time.
func (e *Engine) update(ctx context.Context, fn func(t *tx) error) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	t := &tx{
		w: e.world, now: time.Now(),
		nodes: map[fleet.NodeID]fleet.Node{}, runs: map[fleet.RunID]fleet.Run{}, tickets: map[[32]byte]fleet.Ticket{},
	}
	if err := fn(t); err != nil {
		return err
	}
	c, err := t.change()
	if err != nil {
		return err
	}
	if c.Site == nil && len(c.Nodes)+len(c.Runs)+len(c.Tickets)+len(c.Events) == 0 {
		return nil // nothing to store, and nobody to wake
	}
	// A change that was decided is stored even when whoever asked has gone.
	if err := e.Store.Save(context.WithoutCancel(ctx), c); err != nil {
		return &fleet.Error{
			Kind: fleet.Internal, Op: "store change", Err: err,
			Hint: "check free space and the health of the disk that holds the state directory",
		}
	}
	e.world.apply(c)
	e.bus.publish(c.Events...)
	return nil
}

// change closes the transaction: transitions are checked, revisions and event
// numbers given.
func (t *tx) change() (fleet.Change, error) {
	c := fleet.Change{Site: t.site}
	for _, id := range slices.Sorted(maps.Keys(t.nodes)) {
		n := t.nodes[id]
		if old, ok := t.w.node(id); ok {
			if err := fleet.CheckTransition(old.State, n.State); err != nil {
				return c, err
			}
		}
		n.Revision++
		c.Nodes = append(c.Nodes, n)
	}
	c.Runs = slices.Collect(maps.Values(t.runs))
	c.Tickets = slices.Collect(maps.Values(t.tickets))
	for i := range t.events {
		t.events[i].Seq = t.w.seq + int64(i) + 1
		t.events[i].At = t.now
	}
	c.Events = t.events
	return c, nil
}

func (t *tx) node(id fleet.NodeID) (fleet.Node, error) {
	if n, ok := t.nodes[id]; ok {
		return n, nil
	}
	n, ok := t.w.node(id)
	if !ok {
		return n, unknownNode(string(id))
	}
	return n, nil
}

func (t *tx) put(n fleet.Node) { t.nodes[n.ID] = n }

func (t *tx) run(id fleet.RunID) (fleet.Run, error) {
	if r, ok := t.runs[id]; ok {
		return r, nil
	}
	r, ok := t.w.run(id)
	if !ok {
		return r, unknownRun(id)
	}
	return r, nil
}

func (t *tx) putRun(r fleet.Run) { t.runs[r.ID] = r }

// runNode changes one node's part of a run. The slice is copied, because
// readers may hold the old one.
func (t *tx) runNode(id fleet.RunID, node fleet.NodeID, fn func(rn *fleet.RunNode)) error {
	r, err := t.run(id)
	if err != nil {
		return err
	}
	r.Nodes = slices.Clone(r.Nodes)
	for i := range r.Nodes {
		if r.Nodes[i].Node == node {
			r.Nodes[i].Times = slices.Clone(r.Nodes[i].Times)
			fn(&r.Nodes[i])
		}
	}
	t.putRun(r)
	return nil
}

func (t *tx) event(typ fleet.EventType, n fleet.Node, actor, text string) {
	t.events = append(t.events, fleet.Event{Type: typ, Node: n.ID, Pool: n.Pool, Run: n.Run, Actor: actor, Text: text})
}
