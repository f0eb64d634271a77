package http

import (
	"container/list"
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
//
// A hall that is switched on at once comes here at once, and each waits for all
// before it: whoever joins looks at its own group, and at nobody else.
type racks struct {
	now func() time.Time

	mu     sync.Mutex
	groups map[rackGroup]map[fleet.NodeID]*rackMember
	member map[fleet.NodeID]*rackMember
	order  list.List         // of *rackMember, who was heard of longest ago first
	latest map[rackGroup]int // by the first of those alike: the one that the last newcomer got
	looked int               // members and groups, ever: tests count them
}

// A rackGroup is nodes that feed each other. A subnet may have more nodes
// than that; number tells its groups apart.
type rackGroup struct {
	digest, subnet, chassis string
	number                  int
}

type rackMember struct {
	node   fleet.NodeID
	group  rackGroup
	addr   netip.AddrPort
	joined time.Time
	seen   time.Time
	among  *list.Element // of all
}

const (
	rackHold   = 15 * time.Second // a node that was not heard of for so long has left
	rackEvery  = 5                // seconds between two words of a node
	rackSettle = 10 * time.Second // the others change quickly in the beginning
)

func newRacks(now func() time.Time) *racks {
	return &racks{
		now: now, groups: map[rackGroup]map[fleet.NodeID]*rackMember{}, member: map[fleet.NodeID]*rackMember{}, latest: map[rackGroup]int{},
	}
}

// join enters a node, or renews it, and returns the addresses of its group and
// after how many seconds it shall ask again.
func (r *racks) join(node fleet.NodeID, g rackGroup, addr netip.AddrPort) (peers []string, every int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.sweep(now)
	m := r.memberOf(node, g, now)
	m.addr, m.seen = addr, now
	r.order.MoveToBack(m.among)
	every = rackEvery
	for _, other := range r.groups[m.group] {
		r.looked++
		if now.Sub(other.joined) < rackSettle {
			every = 1
		}
		peers = append(peers, other.addr.String())
	}
	return peers, every
}

// memberOf returns a node in the group that it is in already, or in one with
// room. A node that fetches something else now leaves its old one.
func (r *racks) memberOf(node fleet.NodeID, g rackGroup, now time.Time) *rackMember {
	if m := r.member[node]; m != nil {
		if m.group.first() == g.first() {
			return m
		}
		r.remove(node)
	}
	m := &rackMember{node: node, group: r.withRoom(g), joined: now}
	m.among = r.order.PushBack(m)
	r.member[node] = m
	if r.groups[m.group] == nil {
		r.groups[m.group] = map[fleet.NodeID]*rackMember{}
	}
	r.groups[m.group][node] = m
	return m
}

// withRoom returns the group that the last newcomer got, and when that is full
// the first one with room: they are all looked at once in a group's time.
func (r *racks) withRoom(g rackGroup) rackGroup {
	alike := g.first()
	g.number = r.latest[alike]
	if len(r.groups[g]) >= api.MaxRackPeers {
		for g.number = 0; len(r.groups[g]) >= api.MaxRackPeers; g.number++ {
			r.looked++
		}
	}
	r.latest[alike] = g.number
	return g
}

// first is the one that groups of the same nodes begin with.
func (g rackGroup) first() rackGroup {
	g.number = 0
	return g
}

// sweep removes all who have left without a word: places in a group, or a group
// itself, are not to be held by who crashed. It looks at them, and at one more.
func (r *racks) sweep(now time.Time) {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		m := e.Value.(*rackMember) //nolint:forcetypeassert // nothing else is in it
		r.looked++
		if now.Sub(m.seen) <= rackHold {
			return
		}
		r.remove(m.node)
	}
}

func (r *racks) leave(node fleet.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(node)
}

func (r *racks) remove(node fleet.NodeID) {
	m := r.member[node]
	if m == nil {
		return
	}
	delete(r.member, node)
	r.order.Remove(m.among)
	delete(r.groups[m.group], node)
	if len(r.groups[m.group]) > 0 {
		return
	}
	delete(r.groups, m.group)
	if alike := m.group.first(); r.latest[alike] == m.group.number {
		delete(r.latest, alike)
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
