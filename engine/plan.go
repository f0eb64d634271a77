package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// Plan says what a run of the pool would do with each of its nodes. While a
// run is under way it is that run's plan.
func (e *Engine) Plan(_ context.Context, name fleet.PoolName) (fleet.Plan, error) {
	pool, prof, err := e.pool(name)
	if err != nil {
		return fleet.Plan{}, err
	}
	img, err := e.Images.Image(prof.Image)
	if err != nil {
		return fleet.Plan{}, err
	}
	nodes := e.Nodes()
	p := planPool(pool, prof, img, nodes, e.allInHand(nodes))
	for i, it := range p.Items {
		if n, ok := e.world.node(it.Node); ok && (it.Class == fleet.Add || it.Class == fleet.Replace) {
			p.Items[i].Before = e.before(pool, n)
		}
	}
	if r, ok := e.activeRun(name); ok {
		p.Run, p.Carried = r.ID, r.Plan
	}
	return p, nil
}

func (e *Engine) activeRun(pool fleet.PoolName) (fleet.Run, bool) {
	for _, r := range e.Runs() {
		if r.Pool == pool && !r.State.Over() {
			return r, true
		}
	}
	return fleet.Run{}, false
}

// planPool compares what is declared with what is there. It is pure: the same
// pool and nodes give the same plan, whatever their order. What is done to a node
// by hand comes with the reason that it is left alone for.
func planPool(pool fleet.Pool, prof fleet.Profile, img fleet.Image, nodes []fleet.Node, inHand map[fleet.NodeID]string) fleet.Plan {
	p := fleet.Plan{Pool: pool.Name, Image: img}
	taken := map[string]bool{}
	var mine []fleet.Node
	for _, n := range nodes {
		taken[n.Name] = true
		if n.Pool == pool.Name && n.State != fleet.Retired {
			mine = append(mine, n)
		}
	}
	slices.SortFunc(mine, func(a, b fleet.Node) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.MAC), string(b.MAC)))
	})
	for _, n := range mine {
		it := planNode(n, prof, img)
		if why := inHand[n.ID]; why != "" && it.Class.Changes() {
			it = fleet.PlanItem{Class: fleet.Skip, Reason: why + ": plan again when that is over"}
		}
		it.Node, it.Title, it.Name, it.Role = n.ID, n.Title(), n.Name, n.Role
		if it.Name == "" && it.Class.Changes() {
			it.Name = freeName(pool.Name, taken)
		}
		p.Items = append(p.Items, it)
	}
	giveRoles(pool, p.Items)
	return p
}

// freeName returns the first name "<pool>-NN" that no node has.
func freeName(pool fleet.PoolName, taken map[string]bool) string {
	for i := 1; ; i++ {
		name := fmt.Sprintf("%s-%02d", pool, i)
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
}

// planNode classifies one node.
func planNode(n fleet.Node, prof fleet.Profile, img fleet.Image) fleet.PlanItem {
	as := func(c fleet.Class, format string, a ...any) fleet.PlanItem {
		return fleet.PlanItem{Class: c, Reason: fmt.Sprintf(format, a...)}
	}
	switch n.State {
	case fleet.Discovered:
		return as(fleet.Skip, "waiting for approval: provision enrol approve %s", n.MAC)
	case fleet.Maintenance, fleet.Rescue, fleet.Draining, fleet.Releasing:
		return as(fleet.Skip, "%s", n.State)
	case fleet.Quarantined:
		return as(fleet.Skip, "quarantined: %s", n.Failure.Text)
	case fleet.Active:
		if n.System.Digest == img.Digest {
			return as(fleet.Keep, "active and as declared")
		}
		// Taking a working member away is a decision of its own.
		return as(fleet.Skip, "runs another version of %s: drain it and take it out of the cluster first", n.System.Image)
	case fleet.Installed, fleet.Joining:
		return as(fleet.Join, "installed, not in the cluster")
	case fleet.Failed:
		if !n.System.InstalledAt.IsZero() {
			return as(fleet.Join, "installed, failed before it was active: %s", n.Failure.Text)
		}
	default: // ready, or an install of it is under way
	}
	return planInstall(n, prof, img)
}

// planInstall is for nodes that get a system: safe if the disk is blank or
// holds only what an unfinished install of ours left on it.
func planInstall(n fleet.Node, prof fleet.Profile, img fleet.Image) fleet.PlanItem {
	d, err := fleet.ChooseDisk(prof.Disk, n.Inventory.Disks, img.Bytes)
	if err == nil {
		err = bootable(n.BMC)
	}
	switch {
	case err != nil:
		return fleet.PlanItem{Class: fleet.Add, Reason: "will fail: " + err.Error()}
	case d.Holds != "" && n.System.Disk != d.ID:
		return fleet.PlanItem{Class: fleet.Replace, Reason: fmt.Sprintf("disk %s holds %s", diskName(d), d.Holds), Disk: diskName(d)}
	case n.System.Disk == d.ID:
		return fleet.PlanItem{Class: fleet.Add, Reason: "approved, its last install did not end", Disk: diskName(d)}
	}
	return fleet.PlanItem{Class: fleet.Add, Reason: "approved, blank", Disk: diskName(d)}
}

func diskName(d fleet.Disk) string { return cmp.Or(d.Serial, d.ID) }

// giveRoles makes as many managers as the pool declares out of the nodes that
// take part. Those that are managers stay; the next in order are added.
func giveRoles(pool fleet.Pool, items []fleet.PlanItem) {
	if pool.Cluster == fleet.NoCluster {
		return
	}
	managers := 0
	for _, it := range items {
		if it.Role == fleet.Manager && it.Class != fleet.Skip {
			managers++
		}
	}
	for i := range items {
		it := &items[i]
		if it.Role != "" || !it.Class.Changes() {
			continue
		}
		it.Role = fleet.Worker
		if managers < pool.Managers && !it.Class.Destructive() {
			it.Role = fleet.Manager
			managers++
		}
	}
}
