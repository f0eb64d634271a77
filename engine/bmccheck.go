package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Checker tests how far a node's BMC does what its standard says. With power,
// it may switch the node off and on.
type Checker interface {
	Check(ctx context.Context, n fleet.Node, power bool) (fleet.BMCCheck, error)
}

// checkWithin is how long a check may take: most of it is waiting for systems
// to shut down.
const checkWithin = 20 * time.Minute

// bmcChecks are the last check of each BMC, and those under way. They do not
// outlive the engine: what a check learns goes into the site by hand.
type bmcChecks struct {
	mu sync.Mutex
	of map[fleet.NodeID]*bmcCheck
}

type bmcCheck struct {
	report fleet.BMCCheck
	err    error
	over   chan struct{}
}

// begin notes a check of a node, which the caller has in hand.
func (c *bmcChecks) begin(id fleet.NodeID, power bool) *bmcCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	it := &bmcCheck{report: fleet.BMCCheck{Node: id, Began: time.Now(), Running: true, Power: power}, over: make(chan struct{})}
	if c.of == nil {
		c.of = map[fleet.NodeID]*bmcCheck{}
	}
	c.of[id] = it
	return it
}

func (c *bmcChecks) end(it *bmcCheck, r fleet.BMCCheck, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Node, r.Began, r.Power, r.Running = it.report.Node, it.report.Began, it.report.Power, false
	it.report, it.err = r, err
	close(it.over)
}

func (c *bmcChecks) last(id fleet.NodeID) *bmcCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[id]
}

func (c *bmcChecks) read(it *bmcCheck) (fleet.BMCCheck, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return it.report, it.err
}

// CheckBMC begins to test a node's BMC. [Engine.BMCCheck] has what comes of it.
// With power, the node may be switched off and on: not while it has a run.
func (e *Engine) CheckBMC(_ context.Context, actor, ref string, power bool) (fleet.BMCCheck, error) {
	n, err := e.Node(ref)
	switch {
	case err != nil:
		return fleet.BMCCheck{}, err
	case !n.BMC.Usable() || e.Checker == nil:
		return fleet.BMCCheck{}, withoutBMC(n, checkBMC)
	case n.BMC.Via() == "" || n.BMC.Via().Web() && n.BMC.Pin == "":
		return fleet.BMCCheck{}, &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeBMCNotProbed, Op: checkBMC, On: "node " + n.Title(), Err: errors.New("nobody has looked at it yet"),
			Hint: "look at it: provision bmc probe " + n.Title(),
		}
	}
	does := handCheck
	if power {
		does = handPower
	}
	letGo, err := e.takeInHand(n, checkBMC, actor, does)
	if err != nil {
		return fleet.BMCCheck{}, err
	}
	it := e.checks.begin(n.ID, power)
	report := it.report
	e.runs.Go(func() { //nolint:contextcheck // the check goes on when who asked for it has left
		ctx, cancel := context.WithTimeout(e.running, checkWithin)
		defer cancel()
		e.awaitAccount(ctx, n.ID)
		found, err := e.Checker.Check(ctx, e.asItIs(n), power)
		if kept := e.keepCheck(e.running, actor, n.ID, found, power, err); kept != nil {
			e.Log.ErrorContext(ctx, "check of a BMC not recorded", "node", n.ID, "err", kept)
		}
		letGo() // before anybody is told that it is over
		e.checks.end(it, found, err)
	})
	return report, nil
}

const checkBMC = "check BMC"

// keepCheck records that a BMC was checked, and which model it is: profiles may
// be for it.
func (e *Engine) keepCheck(ctx context.Context, actor string, id fleet.NodeID, r fleet.BMCCheck, power bool, refusal error) error {
	return e.update(context.WithoutCancel(ctx), func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		t.event(checkEvent(power), n, actor, checkText(r, refusal))
		if r.Model != (fleet.BMCModel{}) && r.Model != n.BMC.Model {
			n.BMC.Model = r.Model
			n.BMC.Quirks = e.Site().BMCQuirksOf(n)
			t.put(n)
		}
		return nil
	})
}

func checkEvent(power bool) fleet.EventType {
	if power {
		return fleet.EventPower
	}
	return fleet.EventChanged
}

func checkText(r fleet.BMCCheck, refusal error) string {
	if refusal != nil {
		return fleet.CleanText("BMC check failed: " + refusal.Error())
	}
	count := map[fleet.BMCGrade]int{}
	for _, it := range r.Results {
		count[it.Grade]++
	}
	return fmt.Sprintf("BMC checked: %d ok, %d warnings, %d failed", count[fleet.BMCOK], count[fleet.BMCWarning], count[fleet.BMCFailed])
}

// BMCCheck returns the last check of a node's BMC, when it is over or the
// context ends. A check that could not be made is its error.
func (e *Engine) BMCCheck(ctx context.Context, ref string) (fleet.BMCCheck, error) {
	n, err := e.Node(ref)
	if err != nil {
		return fleet.BMCCheck{}, err
	}
	it := e.checks.last(n.ID)
	if it == nil {
		return fleet.BMCCheck{}, &fleet.Error{
			Kind: fleet.NotFound, Code: "E-BMC-UNCHECKED", Op: "show check of BMC", On: "node " + n.Title(), Err: errors.New("it was not checked since the server was started"),
			Hint: "check it: provision bmc check " + n.Title(),
		}
	}
	select {
	case <-it.over:
	case <-ctx.Done():
	}
	return e.checks.read(it)
}
