package bmc

import (
	"context"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// A gate lets one conversation at a time through to a BMC, and not too soon
// after the last: some freeze when they are asked without a pause. Changes,
// which take several conversations, pass one at a time too: of the BMC, or of one
// of the machines behind it, whose changes take places.
type gate struct {
	changes chan struct{}
	places  chan struct{}
	talks   chan struct{}
	breaker breaker
	used    time.Time // by the controller's mutex

	mu      sync.Mutex
	yield   func()              // ends the conversation that gives way; nil: none does
	urgent  int                 // who waits for the conversation that gives way
	ended   time.Time           // the last conversation
	suite   types.CipherSuiteID // known to work; 0: none yet
	console fleet.ConsoleVia    // how the console was reached; "" not yet
	owner   uint32              // of the console, when we had it last: our session
}

func newGate() *gate {
	return &gate{changes: make(chan struct{}, 1), places: make(chan struct{}, machinesAtOnce), talks: make(chan struct{}, 1)}
}

// idle reports whether nobody is inside, nor has the console.
func (g *gate) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.changes)+len(g.places)+len(g.talks) == 0 && g.owner == 0
}

// take waits for a place, at most as long as the context lives.
func take(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// machinesAtOnce is how many machines behind one BMC are changed at the same time:
// they talk one by one, and each has to be seen to follow in time.
const machinesAtOnce = 4

// turn waits for the change of a machine, or of the whole BMC when it is the gate of
// that, and returns what ends it.
func (g *gate) turn(ctx context.Context, bmc *gate) (end func(), err error) {
	places := 1
	if g == bmc {
		places = machinesAtOnce
	}
	if err := take(ctx, g.changes); err != nil {
		return nil, err
	}
	taken := 0
	end = func() {
		for range taken {
			<-bmc.places
		}
		<-g.changes
	}
	for ; taken < places; taken++ {
		if err := take(ctx, bmc.places); err != nil {
			end()
			return nil, err
		}
	}
	return end, nil
}

// rest waits until the BMC has had its pause.
func (g *gate) rest(ctx context.Context, interval time.Duration) error {
	g.mu.Lock()
	left := interval - time.Since(g.ended)
	g.mu.Unlock()
	return pause(ctx, left)
}

// hurry ends the conversation that gives way to others, and lets none begin
// until done is called.
func (g *gate) hurry() (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.urgent++
	if g.yield != nil {
		g.yield()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.urgent--
	}
}

// politely lets stop end this conversation when somebody else wants to talk.
func (g *gate) politely(stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.yield = stop
	if g.urgent > 0 {
		stop()
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	g.ended, g.yield = time.Now(), nil
	g.mu.Unlock()
	<-g.talks
}

// suites returns what to try, best first: what the target says, what has
// worked before, or else 17 and 3. Suite 0 lets everybody in and is never used.
func (g *gate) suites(stored int) []types.CipherSuiteID {
	if stored > 0 && stored < int(types.CipherSuiteIDReserved) {
		return []types.CipherSuiteID{types.CipherSuiteID(stored)}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.suite > 0 {
		return []types.CipherSuiteID{g.suite}
	}
	return []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}
}

// learn remembers what worked; 0 forgets it.
func (g *gate) learn(suite types.CipherSuiteID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suite = suite
}

// consoleWay remembers how the console was reached, and returns it; "" asks only.
func (g *gate) consoleWay(via fleet.ConsoleVia) fleet.ConsoleVia {
	g.mu.Lock()
	defer g.mu.Unlock()
	if via != "" {
		g.console = via
	}
	return g.console
}

// owned remembers our session that has the console, and returns the one before.
func (g *gate) owned(session uint32) (before uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, g.owner = g.owner, session
	return before
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
