package http

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/throttle"
)

// A quota is how often machines may do what costs something before they have
// shown who they are. A thousand of them may be behind one address, and a
// stranger may be the only one behind it: so those that somebody approved are
// counted each by itself, and together they may do as much as a hall needs;
// all others at an address share what one machine needs.
type quota struct {
	strangers *throttle.Throttle[netip.Addr]
	nodes     *throttle.Throttle[nodeAt]
	halls     *throttle.Throttle[netip.Addr] // all nodes of an address
}

// A nodeAt is a node at an address: who gives itself out for one elsewhere
// takes nothing from it.
type nodeAt struct {
	node fleet.NodeID
	addr netip.Addr
}

// Rates for each address, and for each node at it.
const (
	strangerBurst = 64
	strangerRate  = 2.0 // per second
	nodeBurst     = 10
	nodeRate      = 0.5 // per second
	hallBurst     = bootsPerAddr
	hallRate      = 50.0 // per second
)

func newQuota(now func() time.Time) *quota {
	return &quota{
		strangers: throttle.New[netip.Addr](maxPeers, strangerBurst, strangerRate, now),
		nodes:     throttle.New[nodeAt](maxPeers, nodeBurst, nodeRate, now),
		halls:     throttle.New[netip.Addr](maxPeers, hallBurst, hallRate, now),
	}
}

// allow reports whether a machine that says it is a node, or is none, may act
// now. What one node has too many costs the others nothing.
func (q *quota) allow(n fleet.Node, addr netip.Addr) bool {
	if !n.WasApproved() {
		return q.strangers.Allow(addr)
	}
	return q.nodes.Allow(nodeAt{n.ID, addr}) && q.halls.Allow(addr)
}
