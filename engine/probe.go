package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A Prober signs in to a node's BMC for the first time. It returns what the
// node's BMC is to be from then on: driver, cipher suite, certificate. With an
// error, the driver is the one that was refused. A BMC that has refused the
// account lately is not asked again, so that nobody is locked out, unless anyway is
// true: a person wants to know, or the account was changed meanwhile.
type Prober interface {
	Probe(ctx context.Context, n fleet.Node, anyway bool) (fleet.BMC, error)
}

// probe looks at the BMC of a node that just enrolled, once, beside
// everything else. A BMC that refuses us is an event: the operator learns of
// it now, and not when the first run fails.
func (e *Engine) probe(n fleet.Node) {
	if e.Prober == nil || !n.BMC.Usable() || n.BMC.Driver != "" {
		return
	}
	e.runs.Go(func() {
		ctx := e.running
		found, refusal := e.Prober.Probe(ctx, n, false)
		if ctx.Err() != nil {
			return
		}
		if err := e.keepProbe(ctx, "engine", n.ID, found, refusal); err != nil {
			e.Log.ErrorContext(ctx, "BMC probe not recorded", "node", n.ID, "err", err)
		}
		if refusal == nil {
			e.look(ctx, n.ID)
		}
	})
}

func (e *Engine) keepProbe(ctx context.Context, actor string, id fleet.NodeID, found fleet.BMC, refusal error) error {
	return e.update(ctx, func(t *tx) error {
		now, err := t.node(id)
		if err != nil {
			return err
		}
		if refusal != nil {
			t.event(fleet.EventUnexpected, now, actor, "BMC "+now.BMC.Address+": "+fleet.CleanText(refusal.Error()))
			return nil //nolint:nilerr // the refusal is what is recorded
		}
		if now.BMC.Address != found.Address || now.BMC.Wanted != found.Wanted {
			return nil // the site says otherwise by now
		}
		now.BMC = now.BMC.Learned(found)
		t.event(fleet.EventChanged, now, actor, "BMC "+found.Address+" is spoken to by "+string(found.Driver))
		t.put(now)
		return nil
	})
}

// ProbeBMC looks at a node's BMC anew. With system, the node is that one of the
// systems behind it. A certificate that is pinned stays so.
func (e *Engine) ProbeBMC(ctx context.Context, actor, ref, system string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	if !n.BMC.Usable() || e.Prober == nil {
		return n, withoutBMC(n, "probe BMC")
	}
	n.BMC.Driver, n.BMC.CipherSuite, n.BMC.System = "", -1, system
	found, refusal := e.Prober.Probe(ctx, n, true)
	e.notePin(ctx, n, refusal)
	if err := e.keepProbe(context.WithoutCancel(ctx), actor, n.ID, found, refusal); err != nil {
		return n, err
	}
	if refusal != nil {
		return n, refusal
	}
	return e.Node(string(n.ID))
}
