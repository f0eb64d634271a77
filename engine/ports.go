package engine

import (
	"context"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// A Store keeps the world. Save keeps a change whole or not at all, on stable
// storage, before it returns.
type Store interface {
	Load(ctx context.Context) (fleet.World, error)
	Save(ctx context.Context, c fleet.Change) error
	Events(ctx context.Context, since int64, limit int) ([]fleet.Event, error)
}

// Loaders says where a node's firmware finds its loader by HTTP.
type Loaders interface {
	LoaderURL(n fleet.Node) (string, error)
}

// Relays knows the relays of ours.
type Relays interface {
	// AddrOn returns the address at which the machines of a subnet find a relay of
	// ours, which sends them their boot files; invalid: there is none.
	AddrOn(subnet string) netip.Addr
}

// Addresses knows those of this server.
type Addresses interface {
	// Own reports whether an address is one of them.
	Own(a netip.Addr) bool
}

// Media says where a BMC finds the CD image of one boot of a node. The secret
// is part of the URL.
type Media interface {
	MediaURL(ctx context.Context, n fleet.Node, secret string) (string, error)
}

// Power switches nodes through their BMCs. It returns when the BMC, asked
// again, says that it is so.
type Power interface {
	Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error)
}

// Images knows the images that can be installed.
type Images interface {
	Image(name fleet.ImageName) (fleet.Image, error)
}

// Seeds makes the files that a new system finds on its disk.
type Seeds interface {
	Seed(n fleet.Node, p fleet.Profile) ([]fleet.SeedFile, error)
}

// A Joiner brings installed nodes into a cluster. Each call is safe to repeat.
type Joiner interface {
	// Form makes the node the first manager of a new cluster, or finds that it
	// is a manager already.
	Form(ctx context.Context, n fleet.Node) (fleet.Joined, error)
	// Order returns how a node joins in a role, with a token that the manager
	// via gave out just now.
	Order(ctx context.Context, via, n fleet.Node, role fleet.Role) (fleet.JoinOrder, error)
	// Confirm returns when the manager via lists the node as ready, with its
	// labels set, and lets work come to it.
	Confirm(ctx context.Context, via, n fleet.Node, j fleet.Joined) error
}

// Consoles knows what machines wrote to their serial consoles.
type Consoles interface {
	// LastLines are the last ones, newest last: hostile text without control
	// characters. It does not wait for anybody.
	LastLines(node fleet.NodeID, most int) []string
}

// A Closer closes a cluster again behind a batch of joins.
type Closer interface {
	// Rotate makes the join tokens that were given out worthless.
	Rotate(ctx context.Context, via fleet.Node) error
	// Tidy removes what joins that came to nothing left in the cluster's list
	// of members, and names it. It may take a minute to be sure. What was removed
	// is named with an error too.
	Tidy(ctx context.Context, via fleet.Node) (removed []string, err error)
}
