package swarm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/rackstage/provision/fleet"
)

// patience is how long a member that has no name yet is waited for, and one
// that Docker still takes for alive. A join takes seconds. Docker answers after
// 20 in any case, and goes on with one that has come to nothing in the background:
// until the agent makes it leave, at once, or before the next join. What comes
// after its member was removed is refused. That a member is gone Docker sees 10
// to 16 seconds later.
const patience = time.Minute

// read reads the list of members from a manager.
func (s *Swarm) read(ctx context.Context, c *client.Client, via fleet.Node) (roll, error) {
	list, err := c.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return roll{}, trouble("list swarm nodes", via, err)
	}
	return roll{list.Items, s.joining()}, nil
}

// removeOlder removes what earlier systems of the machine, and earlier joins,
// left in the list, as far as Docker knows that they are gone.
func (s *Swarm) removeOlder(ctx context.Context, c *client.Client, n fleet.Node, j fleet.Joined) error {
	r, err := s.read(ctx, c, n)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(r.members, func(m swarm.Node) bool { return m.ID == j.NodeID })
	if at < 0 {
		return nil
	}
	for _, m := range r.members {
		if r.fateBeside(r.members[at], m) != goes {
			continue
		}
		if _, err := remove(ctx, c, n, m); err != nil {
			return err
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
	t := &tidying{s: s, c: c, via: via}
	err = t.carryOut(ctx)
	return t.removed, err
}

// A tidying is one tidy-up.
type tidying struct {
	s       *Swarm
	c       *client.Client
	via     fleet.Node
	open    map[string]bool // members in doubt, of those that were there at first
	removed []string
}

func (t *tidying) carryOut(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	end := time.Now().Add(patience)
	r, err := t.s.read(ctx, t.c, t.via)
	if err != nil {
		return err
	}
	t.open = r.inDoubt()
	for {
		if err := t.removeGone(ctx, r); err != nil || len(t.open) == 0 {
			return err
		}
		if !time.Now().Before(end) {
			return t.removeNameless(ctx, r)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return trouble("wait for old members", t.via, context.Cause(ctx))
		}
		if r, err = t.s.read(ctx, t.c, t.via); err != nil {
			return err
		}
		still := r.inDoubt()
		maps.DeleteFunc(t.open, func(id string, _ bool) bool { return !still[id] })
	}
}

// inDoubt are the members that may go yet.
func (r roll) inDoubt() map[string]bool {
	open := map[string]bool{}
	for _, m := range r.members {
		if f := r.fateOf(m); f == nameless || f == doubtful {
			open[m.ID] = true
		}
	}
	return open
}

// removeGone removes what goes for certain.
func (t *tidying) removeGone(ctx context.Context, r roll) error {
	return t.remove(ctx, r, func(m swarm.Node) bool { return r.fateOf(m) == goes })
}

// removeNameless removes what has said nothing all the time.
func (t *tidying) removeNameless(ctx context.Context, r roll) error {
	return t.remove(ctx, r, func(m swarm.Node) bool { return r.fateOf(m) == nameless && t.open[m.ID] })
}

func (t *tidying) remove(ctx context.Context, r roll, which func(swarm.Node) bool) error {
	for _, m := range r.members {
		if !which(m) {
			continue
		}
		done, err := remove(ctx, t.c, t.via, m)
		if err != nil {
			return err
		}
		if done {
			t.removed = append(t.removed, describe(m))
		}
	}
	return nil
}

// describe names a member for people, who see it no more in the list.
func describe(m swarm.Node) string {
	name := fleet.CleanText(m.Description.Hostname)
	if name == "" {
		name = "without a name"
	}
	return fmt.Sprintf("%s (%s)", m.ID, name)
}
