package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// Hello redeems a boot ticket and makes the machine a node. The first
// redemption wins; whoever holds the same key may repeat it (its answer may
// have been lost), anybody else's second redemption puts the node into
// quarantine and stops its run.
func (e *Engine) Hello(ctx context.Context, h fleet.Hello) (fleet.Node, error) {
	e.alive(h.MAC, "")
	var node fleet.Node
	var stolen, disc bool
	err := e.update(ctx, func(t *tx) error {
		var err error
		if stolen, disc, err = e.redeemHello(t, h); err != nil {
			return err
		}
		n, known := e.NodeByMAC(h.MAC)
		if stolen {
			return e.quarantine(t, n, known)
		}
		node, err = e.greet(t, n, known, h)
		return err
	})
	if err == nil && stolen {
		err = badTicket(errors.New("it was redeemed before, by somebody else"))
	}
	if err != nil {
		return fleet.Node{}, err
	}
	e.probe(node)
	if disc {
		e.ejectSoon(node) //nolint:contextcheck // it outlives the hello
	}
	e.Log.InfoContext(ctx, "agent said hello", "mac", node.MAC, "node", node.ID, "state", node.State)
	return node, nil
}

func (e *Engine) quarantine(t *tx, n fleet.Node, known bool) error {
	if !known || !fleet.CanFollow(n.State, fleet.Quarantined) {
		return nil
	}
	n.Failure = fleet.Failure{
		Code: "E-TICKET-TWICE", Phase: n.Phase, Text: "its boot ticket was redeemed twice, with different keys",
		Hint: "find out who else is on its network, then let it in again: provision enrol approve NODE",
	}
	n.State = fleet.Quarantined
	t.put(n)
	t.event(fleet.EventFailed, n, "engine", n.Failure.Text)
	return nil
}

// greet makes or refreshes the node that said hello.
func (e *Engine) greet(t *tx, n fleet.Node, known bool, h fleet.Hello) (fleet.Node, error) {
	inv := h.Inventory.Clean()
	if !known {
		n = fleet.Node{ID: fleet.NewNodeID(), MAC: h.MAC, UUID: h.UUID, State: fleet.Discovered, FirstSeen: t.now, BMC: fleet.BMC{CipherSuite: -1}}
		n.Place = e.places.take(h.MAC)
	}
	if known && identityChanged(n, h.UUID, inv) {
		n.Failure = fleet.Failure{
			Code: "E-IDENTITY", Phase: fleet.PhaseHello,
			Text: fmt.Sprintf("this MAC was serial %q, UUID %q; now serial %q, UUID %q says hello", n.Inventory.Serial, n.UUID, inv.Serial, h.UUID),
			Hint: "if the machine was replaced on purpose: provision enrol approve NODE",
		}
		if fleet.CanFollow(n.State, fleet.Quarantined) {
			n.State = fleet.Quarantined
		}
		t.put(n)
		t.event(fleet.EventUnexpected, n, "engine", n.Failure.Text)
		return n, nil
	}
	n.Inventory, n.UUID, n.Addr, n.LastSeen, n.BootID = inv, h.UUID, h.Addr, t.now, h.BootID
	n.BootKey = hex.EncodeToString(h.Key[:])
	n.Trust = fleet.T0
	if h.Placed && e.poweredOn(n) {
		n.Trust = fleet.T1
	}
	n.MACs = macs(n.MAC, inv)
	e.classify(t, &n)
	t.put(n)
	if !known {
		t.event(fleet.EventDiscovered, n, "node", model(inv.Vendor, inv.Product, inv.Serial))
	}
	return n, t.reach(n, fleet.PhaseHello)
}

// poweredOn reports whether the node boots because its run switched it on: who
// says hello later, or was not switched on by us, may be anybody.
func (e *Engine) poweredOn(n fleet.Node) bool {
	if n.Run == "" || n.State != fleet.Installing || !n.BMC.Usable() {
		return false
	}
	r, _ := e.world.run(n.Run)
	return slices.ContainsFunc(r.Nodes, func(rn fleet.RunNode) bool {
		return rn.Node == n.ID && slices.ContainsFunc(rn.Times, func(p fleet.PhaseTime) bool { return p.Phase == fleet.PhasePower })
	})
}

// identityChanged reports whether another machine uses the node's MAC: all that
// is known of its UUID and its serial number is otherwise, or is not said any
// more. One of the two alone changes when a board is repaired, but none is lost.
// Of a board that never had either, nothing can be told.
func identityChanged(n fleet.Node, uuid string, inv fleet.Inventory) bool {
	was, now := [...]string{n.UUID, n.Inventory.Serial}, [...]string{uuid, inv.Serial}
	known, other := 0, 0
	for i := range was {
		switch {
		case was[i] == "":
		case now[i] == "":
			return true
		case was[i] != now[i]:
			known, other = known+1, other+1
		default:
			known++
		}
	}
	return other > 0 && other == known
}

// macs returns the node's cards, the one that it booted from first.
func macs(boot fleet.MAC, inv fleet.Inventory) []fleet.MAC {
	out := []fleet.MAC{boot}
	for _, nic := range inv.NICs {
		if nic.MAC != "" && !slices.Contains(out, nic.MAC) {
			out = append(out, nic.MAC)
		}
	}
	return out
}

// classify lets the first matching rule say what a discovered machine is.
// Nodes that have a place keep it.
func (e *Engine) classify(t *tx, n *fleet.Node) {
	site := e.Site()
	if t.site != nil {
		site = *t.site
	}
	defer func() { n.BMC.Quirks = site.BMCQuirksOf(*n) }()
	r, ok := site.MatchRule(*n)
	if !ok {
		return
	}
	if n.State == fleet.Discovered {
		if p, ok := site.Pool(r.Pool); ok {
			n.Pool, n.Stage, n.Role, n.Labels = p.Name, p.Stage, r.Role, r.Labels
		}
		if r.Approve && n.Pool != "" {
			n.State, n.Approved = fleet.Ready, true
			t.event(fleet.EventAccess, *n, "rule "+r.Name, "approved for pool "+string(n.Pool))
		}
	}
	// The address is what the machine says: nobody who has not been approved
	// gets to see us sign in.
	if n.Approved && r.BMC.Usable() && !n.BMC.Own && !r.BMC.Withholds(n.BMC, n.Inventory.BMC.Address) {
		n.BMC = n.BMC.Under(r.BMC, n.Inventory.BMC.Address)
	}
	if n.Approved { // whoever has made the account
		n.BMC.Boot = r.BMC.Boot
	}
}

// Refresh takes a newer inventory of a node: a neighbour was heard, say.
func (e *Engine) Refresh(ctx context.Context, id fleet.NodeID, inv fleet.Inventory) error {
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		n.Inventory = inv.Clean()
		if n.State == fleet.Discovered {
			e.classify(t, &n) // a rule may be for its switch port
		}
		t.put(n)
		return nil
	})
}

// MayCertify returns the stage whose certificate the node may have now: that
// of its pool, while it is being installed or has a system.
func (e *Engine) MayCertify(_ context.Context, id fleet.NodeID) (fleet.StageName, error) {
	n, ok := e.world.node(id)
	if !ok {
		return "", unknownNode(string(id))
	}
	if n.Stage == "" || (n.State != fleet.Installing && !n.State.HasSystem()) {
		return "", &fleet.Error{
			Kind: fleet.Denied, Code: "E-CERTIFY", Op: "certify", On: "node " + n.Title(), Err: fmt.Errorf("it is %s", n.State),
			Hint: "only nodes that a run installs get a certificate of their stage",
		}
	}
	return n.Stage, nil
}

// model says which machine it is.
func model(vendor, product, serial string) string {
	return strings.TrimSpace(vendor+" "+product) + ", serial " + serial
}
