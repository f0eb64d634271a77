package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A Prober signs in to a node's BMC for the first time and finds out which
// IPMI cipher suite it speaks.
type Prober interface {
	Probe(ctx context.Context, n fleet.Node) (cipherSuite int, err error)
}

// probe looks at the BMC of a node that just enrolled, once, beside
// everything else. A BMC that refuses us is an event: the operator learns of
// it now, and not when the first run fails.
func (e *Engine) probe(n fleet.Node) {
	if e.Prober == nil || n.BMC.Address == "" || n.BMC.CipherSuite > 0 {
		return
	}
	e.runs.Go(func() {
		ctx := e.running
		suite, refusal := e.Prober.Probe(ctx, n)
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
			now.BMC.CipherSuite = suite
			t.put(now)
			return nil
		})
		if err != nil {
			e.Log.ErrorContext(ctx, "BMC probe not recorded", "node", n.ID, "err", err)
		}
	})
}
