package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// Approve lets a discovered machine in: it becomes ready, in the pool that
// its rule names.
func (e *Engine) Approve(ctx context.Context, actor, ref string) (fleet.Node, error) {
	found, err := e.Node(ref)
	if err != nil {
		return found, err
	}
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(found.ID)
		if err != nil {
			return err
		}
		if n.State == fleet.Quarantined {
			readmit(t, &n, actor)
		}
		if n.State == fleet.Discovered {
			n.Approved = true
			e.classify(t, &n)
		}
		if n.Pool == "" {
			return &fleet.Error{
				Kind: fleet.Conflict, Code: "E-POOL-NONE", Op: "approve", On: "node " + n.Title(), Err: errors.New("no rule gives it a pool"),
				Hint: "add a rule that matches it to site.yaml, then: provision apply -f site.yaml",
			}
		}
		if n.State == fleet.Discovered {
			n.State = fleet.Ready
			t.event(fleet.EventAccess, n, actor, "approved for pool "+string(n.Pool))
		}
		n.Approved = true
		t.put(n)
		found = n
		return nil
	})
	if err == nil {
		e.probe(found)
	}
	return found, err
}

// readmit takes a node out of quarantine. Whatever machine it is, it is that
// from now on; what its disk holds is not touched without approval.
func readmit(t *tx, n *fleet.Node, actor string) {
	n.State, n.UUID, n.Inventory.Serial, n.Failure, n.System, n.Member = fleet.Discovered, "", "", fleet.Failure{}, fleet.System{}, fleet.Member{}
	t.event(fleet.EventAccess, *n, actor, "let out of quarantine")
}

// Apply makes site the declared world and returns what that changes. With
// dryRun it only says so. Discovered machines are looked at again, because
// rules may have come for them.
func (e *Engine) Apply(ctx context.Context, actor string, site fleet.Site, dryRun bool) ([]string, error) {
	if err := site.Validate(); err != nil {
		return nil, err
	}
	var changes []string
	err := e.update(ctx, func(t *tx) error {
		site.Begun = e.Site().Begun
		changes = diffSites(e.Site(), site)
		if dryRun || len(changes) == 0 && reflect.DeepEqual(e.Site(), site) {
			return nil
		}
		if err := e.stillUsed(site); err != nil {
			return err
		}
		t.site = &site
		t.events = append(t.events, fleet.Event{Type: fleet.EventSite, Actor: actor, Text: fmt.Sprintf("applied: %d changes", len(changes))})
		for _, n := range e.Nodes() {
			before := n
			e.classify(t, &n)
			if !reflect.DeepEqual(before, n) {
				t.put(n)
			}
		}
		return nil
	})
	return changes, err
}

// stillUsed refuses a site without a pool that has nodes.
func (e *Engine) stillUsed(site fleet.Site) error {
	for _, n := range e.Nodes() {
		if n.Pool == "" || n.State == fleet.Discovered || n.State == fleet.Retired {
			continue
		}
		if _, ok := site.Pool(n.Pool); !ok {
			return &fleet.Error{
				Kind: fleet.Conflict, Code: "E-POOL-USED", Op: "apply", On: "pool " + string(n.Pool), Err: fmt.Errorf("node %s is in it", n.Title()),
				Hint: "keep the pool until its nodes are released",
			}
		}
	}
	return nil
}

// diffSites lists what is added (+), changed (~) and removed (-).
func diffSites(old, new fleet.Site) []string {
	var out []string
	out = append(out, diffBy("stage", old.Stages, new.Stages, func(s fleet.Stage) string { return string(s.Name) })...)
	out = append(out, diffBy("profile", old.Profiles, new.Profiles, func(p fleet.Profile) string { return p.Name })...)
	out = append(out, diffBy("pool", old.Pools, new.Pools, func(p fleet.Pool) string { return string(p.Name) })...)
	out = append(out, diffBy("script", old.Scripts, new.Scripts, func(s fleet.Script) string { return s.Name })...)
	if old.Menu != new.Menu || old.IPXEShell != new.IPXEShell {
		out = append(out, "~ boot menu")
	}
	out = append(out, diffBy("subnet", old.Subnets, new.Subnets, func(n fleet.Subnet) string { return n.Name })...)
	out = append(out, diffBy("rule", old.Rules, new.Rules, func(r fleet.Rule) string { return r.Name })...)
	out = append(out, diffBy("BMC authority", old.BMCCA, new.BMCCA, func(a fleet.Authority) string { return a.File })...)
	out = append(out, diffBy("BMC account", old.Factory, new.Factory, factoryName)...)
	out = append(out, diffBy("firmware", old.Firmware, new.Firmware, func(t fleet.FirmwareTarget) string {
		return strings.TrimSpace(t.Vendor + " " + t.Model + " " + t.Component)
	})...)
	out = append(out, diffBy("quirk", old.Quirks, new.Quirks, quirkName)...)
	return append(out, diffBy("BMC profile", old.BMCProfiles, new.BMCProfiles, func(p fleet.BMCProfile) string { return p.Quirks.Profile })...)
}

// factoryName is which BMCs come with an account.
func factoryName(a fleet.FactoryAccount) string {
	return strings.Join(slices.DeleteFunc([]string{a.Username, a.Vendor, a.MACPrefix, a.Serial}, func(s string) bool { return s == "" }), " ")
}

// quirkName is whom a quirk is for.
func quirkName(q fleet.Quirk) string {
	return strings.Join(slices.DeleteFunc([]string{q.Vendor, q.Product, q.MACPrefix, q.Platform}, func(s string) bool { return s == "" }), " ")
}

func diffBy[T any](what string, old, new []T, name func(T) string) []string {
	var out []string
	was := map[string]T{}
	for _, o := range old {
		was[name(o)] = o
	}
	for _, n := range new {
		o, ok := was[name(n)]
		switch {
		case !ok:
			out = append(out, "+ "+what+" "+name(n))
		case !reflect.DeepEqual(o, n):
			out = append(out, "~ "+what+" "+name(n))
		}
		delete(was, name(n))
	}
	for _, o := range old {
		if _, gone := was[name(o)]; gone {
			out = append(out, "- "+what+" "+name(o))
		}
	}
	return out
}
