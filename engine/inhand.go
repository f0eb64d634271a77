package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A machine that somebody has in hand is left alone by runs that start meanwhile:
// one whose power is being tested, or whose firmware is being written, is skipped
// with the reason, for that takes long and may end badly. A change of its BMC's
// account takes a minute, and the run waits for it.

// inHand says what is being done to a node by hand that a run would disturb, and
// that would disturb a run; "" is nothing.
func (e *Engine) inHand(id fleet.NodeID) string {
	switch {
	case e.updates.under(id):
		return "its firmware is being updated by hand"
	case e.checks.switches(id):
		return "its BMC is being checked, with power"
	}
	return ""
}

// takeInHand takes a node for what is done by hand, unless a run has it, or it is
// in other hands. What has it is returned. A run takes its nodes under the same
// lock.
func (e *Engine) takeInHand(id fleet.NodeID, take func()) (run fleet.RunID, other string) {
	e.writing.Lock()
	defer e.writing.Unlock()
	n, _ := e.world.node(id)
	if n.Run != "" {
		return n.Run, ""
	}
	if other := e.inHand(id); other != "" {
		return "", other
	}
	take()
	return "", ""
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

// awaitAccount waits until nobody changes the account of a node's BMC any more.
func (e *Engine) awaitAccount(ctx context.Context, id fleet.NodeID) {
	if over := e.enrolments.change(id); over != nil {
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
}
