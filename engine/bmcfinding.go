package engine

import (
	"context"
	"reflect"
	"time"

	"github.com/rackstage/provision/fleet"
)

// settled is what is over when an account of ours has signed in.
var settled = []string{fleet.CodeBMCEnrol, fleet.CodeBMCNoAddress, fleet.CodeBMCPassword}

// find notes trouble with a node's BMC. It stands, over restarts too, until it
// is over.
func (e *Engine) find(ctx context.Context, id fleet.NodeID, code string, cause error) {
	e.refine(ctx, id, func(b fleet.BMC) fleet.BMC {
		return b.WithoutFindings(fleet.CodeBMCEnrol, fleet.CodeBMCNoAddress).WithFinding(code, errorText(cause))
	})
	e.Log.WarnContext(ctx, "BMC account not made", "node", id, "code", code, "err", cause)
}

func errorText(err error) string {
	if code := fleet.CodeOf(err); code != "" {
		return string(code) + ": " + err.Error()
	}
	return err.Error()
}

// look looks at a node's BMC over the network, for what should not be so.
func (e *Engine) look(ctx context.Context, id fleet.NodeID) {
	n, ok := e.world.node(id)
	if !ok || e.Accounts == nil {
		return
	}
	found, err := e.Accounts.Look(ctx, n, e.Site().Factory)
	if err != nil {
		e.Log.WarnContext(ctx, "BMC not looked at", "node", id, "err", err)
		return
	}
	e.refine(ctx, id, func(b fleet.BMC) fleet.BMC { return b.Looked(found) })
}

// refine changes what is known of a node's BMC, and its alarms with it.
func (e *Engine) refine(ctx context.Context, id fleet.NodeID, change func(fleet.BMC) fleet.BMC) {
	err := e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		if b := change(n.BMC); !reflect.DeepEqual(b, n.BMC) {
			n.BMC = b
			t.put(n)
		}
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "finding not stored", "node", id, "err", err)
	}
	e.alertFindings(time.Now())
}

// alertFindings raises what stands, and clears what does not any more.
func (e *Engine) alertFindings(now time.Time) {
	stand := map[alarmKey]string{}
	e.world.mu.RLock()
	for _, n := range e.world.nodes {
		if n.State == fleet.Retired {
			continue
		}
		for _, f := range n.BMC.Findings {
			stand[alarmKey{f.Code, fleet.CleanText("node " + n.Title())}] = f.Detail
		}
	}
	e.world.mu.RUnlock()
	e.alarms.mu.Lock()
	before := e.found
	e.found = stand
	e.alarms.mu.Unlock()
	for key, detail := range stand {
		e.alarms.raise(key.code, key.on, detail, now)
	}
	for key := range before {
		if _, still := stand[key]; !still {
			e.alarms.clear(key, now)
		}
	}
}
