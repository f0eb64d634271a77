package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A Prober signs in to a node's BMC for the first time. It returns what the
// node's BMC is to be from then on: driver, cipher suite, certificate. With an
// error, the driver is the one that was refused.
type Prober interface {
	Probe(ctx context.Context, n fleet.Node) (fleet.BMC, error)
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
		found, refusal := e.Prober.Probe(ctx, n)
		if ctx.Err() != nil {
			return
		}
		err := e.update(ctx, func(t *tx) error {
			now, err := t.node(n.ID)
			if err != nil {
				return err
			}
			if refusal != nil {
				t.event(fleet.EventUnexpected, now, "engine", "BMC "+now.BMC.Address+": "+fleet.CleanText(refusal.Error()))
				return nil //nolint:nilerr // the refusal is what is recorded
			}
			now.BMC = found
			t.put(now)
			return nil
		})
		if err != nil {
			e.Log.ErrorContext(ctx, "BMC probe not recorded", "node", n.ID, "err", err)
		}
	})
}
