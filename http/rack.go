package http

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// racks knows which nodes fetch which image now, in groups that feed each
// other: the same image, the same subnet, the same switch as far as that is
// known. It is not kept: an agent says every few seconds that it is there.
type racks struct {
	now func() time.Time

	mu     sync.Mutex
	groups map[rackGroup]map[fleet.NodeID]*rackMember
	member map[fleet.NodeID]rackGroup
}

// A rackGroup is nodes that feed each other. A subnet may have more nodes
// than that; number tells its groups apart.
type rackGroup struct {
	digest, subnet, chassis string
	number                  int
}

type rackMember struct {
	addr   netip.AddrPort
	joined time.Time
	seen   time.Time
}

const (
	rackHold   = 15 * time.Second // a node that was not heard of for so long has left
	rackEvery  = 5                // seconds between two words of a node
	rackSettle = 10 * time.Second // the others change quickly in the beginning
)

func newRacks(now func() time.Time) *racks {
	return &racks{now: now, groups: map[rackGroup]map[fleet.NodeID]*rackMember{}, member: map[fleet.NodeID]rackGroup{}}
}

// join enters a node, or renews it, and returns the addresses of its group and
// after how many seconds it shall ask again.
func (r *racks) join(node fleet.NodeID, g rackGroup, addr netip.AddrPort) (peers []string, every int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	g = r.groupFor(node, g)
	m := r.groups[g][node]
	if m == nil {
		m = &rackMember{joined: now}
		if r.groups[g] == nil {
			r.groups[g] = map[fleet.NodeID]*rackMember{}
		}
		r.groups[g][node], r.member[node] = m, g
	}
	m.addr, m.seen = addr, now
	every = rackEvery
	for id, other := range r.groups[g] {
		if now.Sub(other.seen) > rackHold {
			r.remove(id)
			continue
		}
		if now.Sub(other.joined) < rackSettle {
			every = 1
		}
		peers = append(peers, other.addr.String())
	}
	return peers, every
}

// groupFor returns the group that a node is in already, or the first one with
// room. A node that fetches something else now leaves its old one.
func (r *racks) groupFor(node fleet.NodeID, g rackGroup) rackGroup {
	if old, ok := r.member[node]; ok {
		if old.digest == g.digest && old.subnet == g.subnet && old.chassis == g.chassis {
			return old
		}
		r.remove(node)
	}
	r.sweep()
	for len(r.groups[g]) >= api.MaxRackPeers {
		g.number++
	}
	return g
}

// sweep removes all who have left without a word. It is for whoever comes new:
// places in a group, or a group itself, are not to be held by who crashed.
func (r *racks) sweep() {
	now := r.now()
	for id, g := range r.member {
		if now.Sub(r.groups[g][id].seen) > rackHold {
			r.remove(id)
		}
	}
}

func (r *racks) leave(node fleet.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(node)
}

func (r *racks) remove(node fleet.NodeID) {
	g, ok := r.member[node]
	if !ok {
		return
	}
	delete(r.member, node)
	delete(r.groups[g], node)
	if len(r.groups[g]) == 0 {
		delete(r.groups, g)
	}
}

// rack tells a node who else of its rack fetches its image now.
func (s *Server) rack(ctx context.Context, in api.RackRequest) (api.RackReply, error) {
	who := callerOf(ctx)
	if in.Port == 0 {
		s.racks.leave(who.node)
		return api.RackReply{}, nil
	}
	node, err := s.o.Engine.Node(string(who.node))
	if err != nil {
		return api.RackReply{}, err
	}
	if node.State != fleet.Installing {
		return api.RackReply{}, newProblem(http.StatusConflict, "E-RACK", "the node is "+string(node.State)+", not being installed", "")
	}
	if in.Digest == "" || len(in.Digest) > 128 {
		return api.RackReply{}, newProblem(http.StatusUnprocessableEntity, "E-RACK", "the image's digest is missing, or too long", "")
	}
	subnet, _ := s.o.Engine.Site().SubnetOf(who.addr)
	self := netip.AddrPortFrom(who.addr, in.Port)
	peers, every := s.racks.join(who.node, rackGroup{digest: in.Digest, subnet: subnet.Name, chassis: chassisOf(node)}, self)
	return api.RackReply{Self: self.String(), Peers: peers, Every: every}, nil
}

// chassisOf is the switch that a node's boot card hangs on, as far as it heard.
func chassisOf(n fleet.Node) string {
	for _, nic := range n.Inventory.NICs {
		if nic.MAC == n.MAC {
			return nic.LLDP.Chassis
		}
	}
	return ""
}
