package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

const joinLife = 10 * time.Minute

// forming stands for the ID of a cluster that a manager is about to form. It
// is stored before the cluster is formed: no two managers of a stage form one,
// whenever the server is killed.
const forming = "forming"

// join brings the node into the cluster of its stage. The first manager forms
// it; everybody else waits for a manager and asks for a ticket.
func (j job) join(ctx context.Context) error {
	n, _, err := j.load()
	if err != nil {
		return err
	}
	pool, _, err := j.e.pool(n.Pool)
	if err != nil {
		return err
	}
	if err := j.change(ctx, func(n *fleet.Node) { n.State = fleet.Joining }); err != nil {
		return err
	}
	if pool.Cluster == fleet.NoCluster {
		return j.reached(ctx, fleet.PhaseJoin)
	}
	joined, err := j.enterCluster(ctx, n)
	if err != nil {
		return err
	}
	err = j.change(ctx, func(n *fleet.Node) {
		n.Member = fleet.Member{Cluster: joined.ClusterID, NodeID: joined.NodeID, Role: n.Role}
	})
	if err != nil {
		return err
	}
	return j.reached(ctx, fleet.PhaseJoin)
}

// enterCluster forms the stage's cluster or joins it, as soon as one of the
// two can be done. It gives up when no manager is on its way.
func (j job) enterCluster(ctx context.Context, n fleet.Node) (fleet.Joined, error) {
	for {
		changed := j.e.world.watch()
		if n.Role == fleet.Manager {
			mine, err := j.claim(ctx)
			if err != nil {
				return fleet.Joined{}, err
			}
			if mine {
				return j.e.Joiner.Form(ctx, n)
			}
		}
		coming := j.e.managerComing(n) // before the look-up: it may arrive in between
		if via, ok := j.e.manager(n.Stage, n.ID); ok {
			return j.joinVia(ctx, n, via)
		}
		if !coming {
			return fleet.Joined{}, noManager(n)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fleet.Joined{}, context.Cause(ctx)
		}
	}
}

// claim makes the node the one that forms its stage's cluster, unless there is
// a cluster or somebody else is forming it. A node that failed at it makes
// room for the next; one that failed with a cluster does not: its cluster may
// live, and there must not be two.
func (j job) claim(ctx context.Context) (mine bool, err error) {
	err = j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		for _, o := range j.e.Nodes() {
			if o.ID == n.ID || o.Stage != n.Stage || o.Member.Cluster == "" {
				continue
			}
			if o.Member.Cluster != forming || o.State != fleet.Failed {
				return nil
			}
		}
		mine = true
		if n.Member.Cluster == "" {
			n.Member = fleet.Member{Cluster: forming, Role: fleet.Manager}
			t.put(n)
		}
		return nil
	})
	return mine, err
}

// Joining returns the nodes that are on their way into a cluster.
func (e *Engine) Joining() []fleet.Node {
	return slices.DeleteFunc(e.Nodes(), func(n fleet.Node) bool { return n.State != fleet.Joining })
}

func (j job) joinVia(ctx context.Context, n, via fleet.Node) (fleet.Joined, error) {
	joined, err := j.redeemed(ctx, n)
	if err != nil {
		return joined, err
	}
	if joined.ClusterID != via.Member.Cluster {
		return joined, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-CLUSTER-FOREIGN", Op: "join", On: "node " + n.Title(),
			Err:  fmt.Errorf("it is in cluster %s, stage %s has %s", fleet.CleanText(joined.ClusterID), n.Stage, via.Member.Cluster),
			Hint: "on the node: docker swarm leave --force; then start the run again",
		}
	}
	return joined, nil
}

// redeemed has the agent join with a fresh ticket.
func (j job) redeemed(ctx context.Context, n fleet.Node) (fleet.Joined, error) {
	secret, hash := fleet.NewSecret()
	err := j.e.update(ctx, func(t *tx) error {
		t.tickets[hash] = fleet.Ticket{Hash: hash, Purpose: fleet.TicketJoin, MAC: n.MAC, Node: n.ID, Expires: t.now.Add(joinLife)}
		return nil
	})
	if err != nil {
		return fleet.Joined{}, err
	}
	step := fleet.Step{ID: "join/" + fleet.ShortHash(hash), Kind: fleet.StepJoin, Join: &fleet.JoinTicket{Secret: secret}}
	report, err := j.e.do(ctx, j.node, step, true)
	if err != nil {
		return fleet.Joined{}, err
	}
	if report.Joined == nil {
		return fleet.Joined{}, errors.New("the agent did not say what it joined")
	}
	return *report.Joined, nil
}

// RedeemJoin tells the node how to join, against a ticket that it got for
// that. The token is asked from a manager now, and kept nowhere.
func (e *Engine) RedeemJoin(ctx context.Context, id fleet.NodeID, secret string) (fleet.JoinOrder, error) {
	var n fleet.Node
	err := e.update(ctx, func(t *tx) error {
		ticket, err := t.w.ticket(fleet.HashSecret(secret), fleet.TicketJoin, t.now)
		if err != nil {
			return err
		}
		if n, err = t.node(id); err != nil {
			return err
		}
		if ticket.Node != id || !ticket.Redeemed.IsZero() || n.State != fleet.Joining {
			return badTicket(errors.New("it was used, or is another node's"))
		}
		ticket.Redeemed = t.now
		t.tickets[ticket.Hash] = ticket
		t.event(fleet.EventAccess, n, "node", "redeemed its join ticket as "+string(n.Role))
		return nil
	})
	if err != nil {
		return fleet.JoinOrder{}, err
	}
	via, ok := e.manager(n.Stage, n.ID)
	if !ok {
		return fleet.JoinOrder{}, noManager(n)
	}
	return e.Joiner.Order(ctx, via, n, n.Role)
}

// manager returns an active manager of the stage's cluster other than one
// node: the one that was confirmed first.
func (e *Engine) manager(stage fleet.StageName, not fleet.NodeID) (fleet.Node, bool) {
	var best fleet.Node
	for _, n := range e.Nodes() {
		if n.Stage != stage || n.ID == not || n.Member.Role != fleet.Manager || n.State != fleet.Active {
			continue
		}
		if best.ID == "" || n.Member.ConfirmedAt.Before(best.Member.ConfirmedAt) {
			best = n
		}
	}
	return best, best.ID != ""
}

// managerComing reports whether a manager of the stage is on its way, in any
// run: for a worker one that may still join or form, for a manager one that
// has the claim to form (managers that wait for each other would wait for
// ever).
func (e *Engine) managerComing(n fleet.Node) bool {
	for _, r := range e.Runs() {
		if r.State.Over() {
			continue
		}
		for _, rn := range r.Nodes {
			o, ok := e.world.node(rn.Node)
			if !ok || o.ID == n.ID || o.Stage != n.Stage || rn.Role != fleet.Manager || rn.State.Over() || rn.State == fleet.RunHeld {
				continue
			}
			if n.Role != fleet.Manager || o.Member.Cluster != "" {
				return true
			}
		}
	}
	return false
}

func noManager(n fleet.Node) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: "E-CLUSTER-NO-MANAGER", Op: "join", On: "node " + n.Title(),
		Err: fmt.Errorf("the cluster of stage %s has no manager", n.Stage), Hint: "mend the failed manager and start the run again",
	}
}

// activate has a manager confirm the node, and opens it for work.
func (j job) activate(ctx context.Context) error {
	n, _, err := j.load()
	if err != nil {
		return err
	}
	pool, _, err := j.e.pool(n.Pool)
	if err != nil {
		return err
	}
	if pool.Cluster != fleet.NoCluster {
		via, ok := j.e.manager(n.Stage, n.ID)
		if !ok {
			via = n // the first manager confirms itself
		}
		joined := fleet.Joined{ClusterID: n.Member.Cluster, NodeID: n.Member.NodeID}
		if err := j.e.Joiner.Confirm(ctx, via, n, joined); err != nil {
			return err
		}
	}
	return j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		if err := t.reach(n, fleet.PhaseActive); err != nil {
			return err
		}
		n.State, n.Phase, n.Progress, n.Member.ConfirmedAt = fleet.Active, fleet.PhaseActive, 100, t.now
		t.put(n)
		return nil
	})
}

// endBatch ends a run with its batch of joins. The run is over before what they
// left is removed: that may take a minute, and nobody has to wait for it. A
// server that is stopped before the run is over leaves all of it to the next
// one; one that is stopped after it leaves the rest to the next run.
func (e *Engine) endBatch(ctx context.Context, r fleet.Run) error {
	via, ok := e.anyManager(r)
	ok = ok && e.rotate(ctx, r, via)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the server is stopping; the next one goes on
	}
	if err := e.finish(ctx, r.ID); err != nil || !ok {
		return err
	}
	e.tidy(ctx, r, via)
	return nil
}

// anyManager returns a manager of the cluster that a run's nodes join.
func (e *Engine) anyManager(r fleet.Run) (via fleet.Node, ok bool) {
	pool, _, err := e.pool(r.Pool)
	if err != nil || pool.Cluster == fleet.NoCluster {
		return via, false
	}
	return e.manager(pool.Stage, "")
}

// rotate makes the join tokens of a run's batch worthless, and reports whether
// it has. A cluster that cannot do it now is told about: its members are not
// touched by it.
func (e *Engine) rotate(ctx context.Context, r fleet.Run, via fleet.Node) bool {
	within, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := e.Closer.Rotate(within, via)
	switch {
	case err == nil:
		e.recordBatch(ctx, r, "join tokens rotated")
	case ctx.Err() == nil:
		e.Log.ErrorContext(ctx, "join tokens not rotated", "run", r.ID, "err", err)
		e.recordBatch(ctx, r, "join tokens NOT rotated: do it by hand: docker swarm join-token --rotate worker (and manager)")
	}
	return err == nil
}

// tidy removes what the batch's joins left in the list of members. What stays
// there does no harm, and the next run looks again.
func (e *Engine) tidy(ctx context.Context, r fleet.Run, via fleet.Node) {
	within, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	removed, err := e.Closer.Tidy(within, via)
	if err != nil && ctx.Err() == nil {
		e.Log.WarnContext(ctx, "members left by joins not removed", "run", r.ID, "err", err)
	}
	if len(removed) > 0 {
		e.recordBatch(ctx, r, "removed from the cluster's list, left there by joins that came to nothing or by earlier systems: "+strings.Join(removed, ", "))
	}
}

// recordBatch notes what was done to the cluster for a run.
func (e *Engine) recordBatch(ctx context.Context, r fleet.Run, text string) {
	err := e.update(ctx, func(t *tx) error {
		t.events = append(t.events, fleet.Event{Type: fleet.EventAccess, Pool: r.Pool, Run: r.ID, Actor: "engine", Text: text})
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "event not recorded", "run", r.ID, "text", text, "err", err)
	}
}
