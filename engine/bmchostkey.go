package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// hostKeyPrefix is what the fingerprint of an SSH host key begins with, and that
// of a TLS certificate does not.
const hostKeyPrefix = "SHA256:"

// SawHostKey keeps the SSH host key that a BMC showed, the first time. From then
// on it has to be that one.
func (e *Engine) SawHostKey(ctx context.Context, node fleet.NodeID, key string) error {
	n, err := e.Node(string(node))
	if err != nil || n.BMC.HostKey != "" || key == "" {
		return err
	}
	_, err = e.setHostKey(ctx, "engine", n, key)
	return err
}

// setHostKey makes a host key the one that a BMC has to show.
func (e *Engine) setHostKey(ctx context.Context, actor string, found fleet.Node, key string) (fleet.Node, error) {
	err := e.update(ctx, func(t *tx) error {
		n, err := t.node(found.ID)
		if err != nil {
			return err
		}
		what := "the BMC's SSH host key is " + fleet.CleanText(key)
		if n.BMC.HostKey != "" {
			what += ", was " + n.BMC.HostKey
		}
		n.BMC.HostKey = fleet.CleanText(key)
		t.event(fleet.EventAccess, n, actor, what)
		t.put(n)
		found = n
		return nil
	})
	return found, err
}
