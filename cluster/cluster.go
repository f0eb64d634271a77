// Package cluster says what a kind of cluster has to be able to do. Each kind
// is a package below it; cluster/clustertest holds what all of them must pass.
package cluster

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A Kind brings nodes into clusters of one kind. Every call is safe to repeat:
// whoever made it before may have been killed before it heard the answer.
type Kind interface {
	// Form makes n the first manager of a new cluster of its stage, or finds
	// that it is one already.
	Form(ctx context.Context, n fleet.Node) (fleet.Joined, error)
	// Order returns how n joins as role. The token in it was asked from the
	// manager via just now and must not be kept.
	Order(ctx context.Context, via, n fleet.Node, role fleet.Role) (fleet.JoinOrder, error)
	// Confirm returns nil when the manager via lists n as ready, in its role,
	// with its labels, and open for work.
	Confirm(ctx context.Context, via, n fleet.Node, j fleet.Joined) error
	// Rotate makes all tokens that were given out worthless.
	Rotate(ctx context.Context, via fleet.Node) error
	// Tidy removes from the list of members what joins that came to nothing
	// and earlier systems of machines that are here anew left in it, and names
	// what it removed. It takes a while to be sure of those that may live, and
	// leaves alone what it is not sure of.
	Tidy(ctx context.Context, via fleet.Node) (removed []string, err error)
}
