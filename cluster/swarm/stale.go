package swarm

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/rackstage/provision/fleet"
)

// patience is how long a member that has no name yet is waited for, and one
// that Docker still takes for alive. A join takes seconds: after 20 Docker gives
// up, and the agent makes it leave. That a member is gone Docker sees 10 to 16
// seconds later.
const patience = time.Minute

// A fate is what a tidy-up does with a member.
type fate int

const (
	stays fate = iota

	goes     // a join that came to nothing left it, or an earlier system of a machine that is here anew
	nameless // it never said a word: of a join under way, or of one that nobody goes on with
	doubtful // as goes, but for all that Docker knows it may be alive
)

// fateOf looks at a member of a list. A manager stays whatever it is: taking it
// away is a decision about quorum. One that never came into the managers' log
// has no status as a manager, and no voice.
func fateOf(m swarm.Node, list []swarm.Node) fate {
	if m.ManagerStatus != nil {
		return stays
	}
	if neverHeard(m) {
		return nameless
	}
	for _, now := range list {
		if !replaces(now, m) {
			continue
		}
		if m.Status.State == swarm.NodeStateDown {
			return goes
		}
		return doubtful // after a change of leader the living are unknown too
	}
	return stays
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
// an older one was: by our label, or where an older one never got any, by name
// or address.
func replaces(now, old swarm.Node) bool {
	ours := now.Spec.Labels[LabelNode]
	if now.ID == old.ID || ours == "" || now.Status.State != swarm.NodeStateReady || now.CreatedAt.Before(old.CreatedAt) {
		return false
	}
	if old.Spec.Labels[LabelNode] == ours {
		return true
	}
	name, addr := old.Description.Hostname, old.Status.Addr
	return neverOpened(old) && (name != "" && name == now.Description.Hostname || isOwn(addr) && addr == now.Status.Addr)
}

// isOwn reports whether an address is one machine's: a leader that reports to
// itself does so from anywhere.
func isOwn(addr string) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && !a.IsUnspecified() && !a.IsLoopback()
}

// removeOlder removes what earlier systems of the machine, and earlier joins,
// left in the list, as far as Docker knows that they are gone.
func removeOlder(ctx context.Context, c *client.Client, n fleet.Node, j fleet.Joined) error {
	list, err := c.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return trouble("list swarm nodes", n, err)
	}
	for _, now := range list.Items {
		if now.ID != j.NodeID {
			continue
		}
		for _, m := range list.Items {
			if fateOf(m, []swarm.Node{now}) != goes {
				continue
			}
			if _, err := remove(ctx, c, n, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a member that is not alive and no manager; Docker looks itself.
// What is gone already, or has come to life since, is left alone.
func remove(ctx context.Context, c *client.Client, n fleet.Node, m swarm.Node) (bool, error) {
	_, err := c.NodeRemove(ctx, m.ID, client.NodeRemoveOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return false, nil
	}
	if err != nil {
		return false, trouble("remove old member", n, err)
	}
	return true, nil
}

// Tidy implements cluster.Kind. It looks at the list once a second until there
// is no doubt about any member that was in it at first.
func (s *Swarm) Tidy(ctx context.Context, via fleet.Node) (removed []string, err error) {
	c, err := s.engine(via)
	if err != nil {
		return nil, err
	}
	if _, err := s.own(ctx, c, via); err != nil {
		return nil, err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var open map[string]bool // members in doubt
	for end := time.Now().Add(s.patience); ; {
		last := !time.Now().Before(end)
		left, gone, err := tidyOnce(ctx, c, via, open, last)
		removed = append(removed, gone...)
		if err != nil || last || len(left) == 0 {
			return removed, err
		}
		open = left
		select {
		case <-tick.C:
		case <-ctx.Done():
			return removed, trouble("wait for old members", via, context.Cause(ctx))
		}
	}
}

// tidyOnce removes what can go. It returns the members in doubt: all of them at
// first (open is nil), later those of them that still are. The last time what
// has said nothing until then goes too.
func tidyOnce(ctx context.Context, c *client.Client, via fleet.Node, open map[string]bool, last bool) (left map[string]bool, removed []string, err error) {
	list, err := c.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return nil, nil, trouble("list swarm nodes", via, err)
	}
	left = map[string]bool{}
	for _, m := range list.Items {
		known := open == nil || open[m.ID]
		switch f := fateOf(m, list.Items); {
		case f == goes, f == nameless && known && last:
			done, err := remove(ctx, c, via, m)
			if err != nil {
				return left, removed, err
			}
			if done {
				removed = append(removed, describe(m))
			}
		case f != stays && known:
			left[m.ID] = true
		}
	}
	return left, removed, nil
}

// describe names a member for people, who see it no more in the list.
func describe(m swarm.Node) string {
	name := fleet.CleanText(m.Description.Hostname)
	if name == "" {
		name = "without a name"
	}
	return fmt.Sprintf("%s (%s)", m.ID, name)
}
