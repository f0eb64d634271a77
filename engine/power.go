package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/rackstage/provision/fleet"
)

// Power switches a node, or says how it is switched. A node that a run works
// on is left to the run.
func (e *Engine) Power(ctx context.Context, actor, ref string, o fleet.PowerOrder) (fleet.PowerState, error) {
	n, err := e.Node(ref)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	if !n.BMC.Usable() {
		return fleet.PowerIsUnknown, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-BMC-NONE", Op: "power " + string(o.Op), On: "node " + n.Title(), Err: errors.New("it has no BMC that we can sign in to"),
			Hint: "give its rule bmc: {username, password_file} in site.yaml and boot it once",
		}
	}
	if n.Run != "" && o.Op != fleet.PowerStatus {
		return fleet.PowerIsUnknown, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-RUN-ACTIVE", Op: "power " + string(o.Op), On: "node " + n.Title(), Err: fmt.Errorf("run %s works on it", n.Run),
			Hint: "wait for the run: provision runs watch " + string(n.Run),
		}
	}
	state, err := e.Options.Power.Switch(ctx, n, o)
	if err != nil || o.Op == fleet.PowerStatus {
		return state, err
	}
	return state, e.update(ctx, func(t *tx) error {
		t.event(fleet.EventPower, n, actor, "power "+string(o.Op))
		return nil
	})
}
