package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// NodeByMAC returns the node that has a card with this address. It answers
// from memory.
func (e *Engine) NodeByMAC(mac fleet.MAC) (fleet.Node, bool) {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	id, ok := e.world.byMAC[mac]
	if !ok {
		return fleet.Node{}, false // most that ask on a large network are no nodes
	}
	n, ok := e.world.nodes[id]
	return n, ok
}

// runOn returns the run that works on the node that has a card with this address.
func (e *Engine) runOn(mac fleet.MAC) (run fleet.RunID, known bool) {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	id, known := e.world.byMAC[mac]
	return e.world.nodes[id].Run, known
}

// Node returns the node with this ID, name or MAC.
func (e *Engine) Node(ref string) (fleet.Node, error) {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	if n, ok := e.world.nodes[fleet.NodeID(ref)]; ok {
		return n, nil
	}
	if n, ok := e.world.nodes[e.world.byName[ref]]; ok {
		return n, nil
	}
	if mac, err := fleet.ParseMAC(ref); err == nil {
		if n, ok := e.world.nodes[e.world.byMAC[mac]]; ok {
			return n, nil
		}
	}
	err := unknownNode(ref)
	if near := fleet.Nearest(ref, slices.Collect(maps.Keys(e.world.byName))); near != "" {
		err.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fleet.Node{}, err
}

// Nodes returns all nodes, by name and then by MAC.
func (e *Engine) Nodes() []fleet.Node {
	e.world.mu.RLock()
	nodes := slices.Collect(maps.Values(e.world.nodes))
	e.world.mu.RUnlock()
	slices.SortFunc(nodes, func(a, b fleet.Node) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.MAC), string(b.MAC)))
	})
	return nodes
}

// nodesThat returns the nodes of which something is so, in any order. Those of
// which it is not are neither copied nor sorted: what looks at all nodes every few
// seconds must not cost more than what it finds.
func (e *Engine) nodesThat(is func(fleet.Node) bool) (some []fleet.Node) {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	for _, n := range e.world.nodes {
		if is(n) {
			some = append(some, n)
		}
	}
	return some
}

// Site returns the declared world.
func (e *Engine) Site() fleet.Site {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	return e.world.site
}

// GetRun returns one run.
func (e *Engine) GetRun(id fleet.RunID) (fleet.Run, error) {
	r, ok := e.world.run(id)
	if !ok {
		return r, unknownRun(id)
	}
	return r, nil
}

// Runs returns all runs, newest first.
func (e *Engine) Runs() []fleet.Run {
	e.world.mu.RLock()
	runs := slices.Collect(maps.Values(e.world.runs))
	e.world.mu.RUnlock()
	slices.SortFunc(runs, func(a, b fleet.Run) int {
		return cmp.Or(b.Started.Compare(a.Started), strings.Compare(string(b.ID), string(a.ID)))
	})
	return runs
}

// Changed returns a channel that is closed at the next change of anything.
func (e *Engine) Changed() <-chan struct{} { return e.world.watch() }

// LastEvent returns the number of the newest stored event.
func (e *Engine) LastEvent() int64 {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	return e.world.seq
}

func unknownNode(ref string) *fleet.Error {
	return &fleet.Error{
		Kind: fleet.NotFound, Code: "E-NODE-UNKNOWN", Err: fmt.Errorf("no node %q", fleet.CleanText(ref)),
		Hint: "see: provision nodes list",
	}
}

func unknownRun(id fleet.RunID) *fleet.Error {
	return &fleet.Error{
		Kind: fleet.NotFound, Code: "E-RUN-UNKNOWN", Err: fmt.Errorf("no run %q", fleet.CleanText(string(id))),
		Hint: "see: provision runs list",
	}
}

func (e *Engine) pool(name fleet.PoolName) (fleet.Pool, fleet.Profile, error) {
	site := e.Site()
	p, ok := site.Pool(name)
	if !ok {
		return p, fleet.Profile{}, unknownPool(site, name)
	}
	prof, ok := site.Profile(p.Profile)
	if !ok {
		return p, prof, &fleet.Error{Kind: fleet.Internal, On: "pool " + string(name), Err: errors.New("its profile is not declared")}
	}
	return p, prof, nil
}

func unknownPool(site fleet.Site, name fleet.PoolName) error {
	var names []string
	for _, p := range site.Pools {
		names = append(names, string(p.Name))
	}
	e := &fleet.Error{Kind: fleet.NotFound, Code: "E-POOL-UNKNOWN", Err: fmt.Errorf("no pool %q", fleet.CleanText(string(name)))}
	switch near := fleet.Nearest(string(name), names); {
	case near != "":
		e.Hint = fmt.Sprintf("Did you mean %q?   Pools: %s", near, strings.Join(names, ", "))
	case len(names) == 0:
		e.Hint = "declare one: provision apply -f site.yaml"
	default:
		e.Hint = "Pools: " + strings.Join(names, ", ")
	}
	return e
}
