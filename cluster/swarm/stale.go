package swarm

import (
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/swarm"

	"github.com/rackstage/provision/fleet"
)

// A fate is what a tidy-up does with a member.
type fate int

const (
	stays fate = iota

	goes     // a join that came to nothing left it, or an earlier system of a machine that is here anew
	nameless // it never said a word: of a join under way, or of one that nobody goes on with
	doubtful // as goes, but for all that Docker knows it may be alive
)

// A roll is a manager's list of members, and what is known beside it.
type roll struct {
	members []swarm.Node
	joining []fleet.Node // nodes of ours that are not confirmed yet
}

// fateOf looks at a member of the list. A manager stays whatever it is: taking it
// away is a decision about quorum. One that never came into the managers' log
// has no status as a manager, and no voice.
func (r roll) fateOf(m swarm.Node) fate {
	for _, now := range r.members {
		if f := r.fateBeside(now, m); f != stays {
			return f
		}
	}
	return stays
}

// fateBeside is fateOf, as far as one member decides it.
func (r roll) fateBeside(now, m swarm.Node) fate {
	switch {
	case m.ManagerStatus != nil:
		return stays
	case neverHeard(m):
		return nameless
	case !r.replaces(now, m):
		return stays
	case m.Status.State == swarm.NodeStateDown:
		return goes
	default:
		return doubtful // after a change of leader the living are unknown too
	}
}

// neverHeard reports whether a member has a certificate and nothing else. The
// manager learns name and address, both at once, when the engine reports for
// work; one whose join was cut off in between never does.
func neverHeard(m swarm.Node) bool {
	return neverOpened(m) && m.Description.Hostname == "" && m.Status.Addr == "" && m.Status.State != swarm.NodeStateReady
}

// neverOpened reports whether a member is as our joins begin: paused. Labels
// come with the update that opens it for work. A member that others joined, and
// did not pause, is none of these.
func neverOpened(m swarm.Node) bool {
	return m.Spec.Availability == swarm.NodeAvailabilityPause && len(m.Spec.Labels) == 0
}

// replaces reports whether a member that is alive and ours is the machine that
// an older one was: by our label, or where the older one never got any, by name
// and address. One of them is not enough: behind NAT all have one address, and
// what a machine has given up, name or address, the next one gets.
func (r roll) replaces(now, old swarm.Node) bool {
	if !isOurs(now) || now.ID == old.ID || now.CreatedAt.Before(old.CreatedAt) {
		return false
	}
	if old.Spec.Labels[LabelNode] == now.Spec.Labels[LabelNode] {
		return true
	}
	name, addr := old.Description.Hostname, old.Status.Addr
	same := name != "" && name == now.Description.Hostname && isOwn(addr) && addr == now.Status.Addr
	return neverOpened(old) && same && !r.mayBeAnother(now, old)
}

// isOurs reports whether a member is alive, and one that we opened for work.
func isOurs(m swarm.Node) bool {
	return m.Spec.Labels[LabelNode] != "" && m.Status.State == swarm.NodeStateReady
}

// mayBeAnother reports whether a member may be of another node than now is: of
// one that has its name and lives, or of one that is just joining.
func (r roll) mayBeAnother(now, old swarm.Node) bool {
	node, name := now.Spec.Labels[LabelNode], old.Description.Hostname
	lives := func(m swarm.Node) bool {
		return isOurs(m) && m.Spec.Labels[LabelNode] != node && m.Description.Hostname == name
	}
	joins := func(n fleet.Node) bool {
		return string(n.ID) != node && (n.Member.NodeID == old.ID || n.Name == name)
	}
	return slices.ContainsFunc(r.members, lives) || slices.ContainsFunc(r.joining, joins)
}

// isOwn reports whether an address is one machine's: a leader that reports to
// itself does so from anywhere.
func isOwn(addr string) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && !a.IsUnspecified() && !a.IsLoopback()
}
