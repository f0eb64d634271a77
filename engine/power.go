package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Power switches a node, or says how it is switched. A node that a run works
// on is left to the run, and one that somebody has in hand to him. What was done,
// and what was tried in vain, is an event: who, why, what it was before and is after.
func (e *Engine) Power(ctx context.Context, actor, ref string, o fleet.PowerOrder) (fleet.PowerState, error) {
	n, err := e.Node(ref)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	if !n.BMC.Usable() {
		return fleet.PowerIsUnknown, withoutBMC(n, "power "+string(o.Op))
	}
	if o.Op == fleet.PowerStatus {
		done, err := e.switchNode(ctx, n, o)
		return cmp.Or(done.After, fleet.PowerIsUnknown), err
	}
	letGo, err := e.takeToSwitch(n, "power "+string(o.Op), actor)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	defer letGo()
	return e.order(ctx, actor, n, o)
}

// takeToSwitch takes a node for power orders. What a person is asked for, or a
// magic packet, waits for nobody: no firmware is written there, and a later wish
// takes the place of an earlier one.
func (e *Engine) takeToSwitch(n fleet.Node, op, actor string) (letGo func(), err error) {
	if d := n.BMC.Via(); d != fleet.DriverManual && d != fleet.DriverWOL {
		return e.takeInHand(n, op, actor, handSwitch)
	}
	if n.Run != "" {
		return nil, runHasIt(n, op)
	}
	return func() {}, nil
}

// order is [Engine.Power] for who has the node in hand. A run may have taken it
// since the order before.
func (e *Engine) order(ctx context.Context, actor string, n fleet.Node, o fleet.PowerOrder) (fleet.PowerState, error) {
	ctx, cancel := e.outliving(ctx, powerWithin)
	defer cancel()
	e.awaitAccount(ctx, n.ID)
	n = e.asItIs(n)
	if n.Run != "" {
		return fleet.PowerIsUnknown, runHasIt(n, "power "+string(o.Op))
	}
	done, err := e.switchNode(ctx, n, o)
	recorded := e.update(context.WithoutCancel(ctx), func(t *tx) error {
		t.event(fleet.EventPower, n, actor, powerText(o, done, err))
		return nil
	})
	return cmp.Or(done.After, fleet.PowerIsUnknown), cmp.Or(err, recorded)
}

// powerWithin ends an order that the drivers' own limits do not: they wait for
// three minutes until a system is shut down, longer where a quirk says so.
const powerWithin = 15 * time.Minute

func withoutBMC(n fleet.Node, op string) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: "E-BMC-NONE", Op: op, On: "node " + n.Title(), Err: errors.New("it has no BMC that we can sign in to"),
		Hint: "give its rule bmc: {username, password_file} in site.yaml and boot it once",
	}
}

// powerText is what the record says of an operation.
func powerText(o fleet.PowerOrder, done fleet.Switched, err error) string {
	text := "power " + string(o.Op)
	if o.URL != "" {
		text += " " + o.URL
	}
	if o.Persist {
		text += " from now on"
	}
	if done.Before != "" && done.Before != fleet.PowerIsUnknown {
		text += ", was " + string(done.Before)
	}
	switch {
	case err != nil:
		text += fmt.Sprintf(", failed: %s %v", fleet.CodeOf(err), err)
	case done.After != "" && done.After != fleet.PowerIsUnknown:
		text += ", is " + string(done.After)
	}
	if o.Reason != "" {
		text += " (" + o.Reason + ")"
	}
	return fleet.CleanText(text)
}

// switchNode has a node switched. One whose BMC nobody has looked at yet is
// looked at first; a certificate that has changed is kept, so that an operator
// can accept it.
func (e *Engine) switchNode(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	if d := n.BMC.Via(); d == fleet.DriverManual || d == fleet.DriverWOL {
		return e.switchByHand(ctx, n, o)
	}
	n, err := e.probed(ctx, n)
	if err != nil {
		return fleet.Switched{}, err
	}
	if n, err = e.settleOpen(ctx, n); err != nil {
		return fleet.Switched{}, err
	}
	if o.Op == fleet.MediaNext && o.URL == "" {
		return e.insertOwn(ctx, n, o)
	}
	done, err := e.Options.Power.Switch(ctx, n, o)
	e.notePin(ctx, n, err)
	if err == nil && o.Op == fleet.MediaEject {
		err = e.endMedia(ctx, n.MAC)
	}
	return done, masked(err)
}

// probed returns a node whose BMC was looked at: now, if nobody has yet.
func (e *Engine) probed(ctx context.Context, n fleet.Node) (fleet.Node, error) {
	if n.BMC.Via() != "" || e.Prober == nil {
		return n, nil
	}
	found, err := e.Prober.Probe(ctx, n, false)
	if err != nil {
		return n, err
	}
	return e.keepBMC(ctx, n.ID, found)
}

// keepBMC stores what a probe has found.
func (e *Engine) keepBMC(ctx context.Context, id fleet.NodeID, found fleet.BMC) (now fleet.Node, err error) {
	err = e.update(ctx, func(t *tx) error {
		if now, err = t.node(id); err != nil {
			return err
		}
		now.BMC = now.BMC.Learned(found)
		t.put(now)
		return nil
	})
	return now, err
}
