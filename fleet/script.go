package fleet

import (
	"errors"
	"fmt"
	"slices"
)

// A Script is an operator's own script for iPXE, GRUB, or both. Machines that it is for get it
// where they would get the script that boots our agent; one that has a system
// boots that all the same.
type Script struct {
	Name  string
	Pools []PoolName
	Nodes []string // names or MAC addresses
	IPXE  string   // a template; "": machines with iPXE get ours
	GRUB  string   // likewise
}

// ScriptFor returns the script for a machine: one that names it, or else one
// that names its pool.
func (s Site) ScriptFor(n Node, mac MAC) (Script, bool) {
	for _, script := range s.Scripts {
		if slices.Contains(script.Nodes, string(mac)) || n.Name != "" && slices.Contains(script.Nodes, n.Name) {
			return script, true
		}
	}
	for _, script := range s.Scripts {
		if n.Pool != "" && slices.Contains(script.Pools, n.Pool) {
			return script, true
		}
	}
	return Script{}, false
}

// ShowsMenu reports whether a machine on a subnet shows the boot menu.
func (s Site) ShowsMenu(n *Node, on *Subnet) bool {
	if s.Menu || on.Menu {
		return true
	}
	pool, ok := s.Pool(n.Pool)
	if !ok {
		return false
	}
	profile, _ := s.Profile(pool.Profile)
	return profile.Menu
}

func (s Site) validateScripts() error {
	var errs []error
	forNode, forPool := map[string]string{}, map[PoolName]string{}
	for i, script := range s.Scripts {
		on := fmt.Sprintf("scripts[%d]", i)
		if !ValidName(script.Name) {
			errs = append(errs, badName(on+".name", script.Name))
		}
		if slices.IndexFunc(s.Scripts, func(o Script) bool { return o.Name == script.Name }) != i {
			errs = append(errs, Invalidf(on+".name", "", fmt.Errorf("script %q is declared twice", script.Name)))
		}
		if script.IPXE == "" && script.GRUB == "" {
			errs = append(errs, Invalidf(on, "write ipxe: or grub:, or both", errors.New("the script is empty")))
		}
		if len(script.Nodes)+len(script.Pools) == 0 {
			errs = append(errs, Invalidf(on, "name pools: or nodes:", errors.New("the script is for nobody")))
		}
		for _, pool := range script.Pools {
			if _, ok := s.Pool(pool); !ok {
				errs = append(errs, Invalidf(on+".pools", "", fmt.Errorf("there is no pool %q", pool)))
			}
			errs = append(errs, taken(on+".pools", string(pool), script.Name, forPool[pool]))
			forPool[pool] = script.Name
		}
		for _, node := range script.Nodes {
			if mac, err := ParseMAC(node); (err != nil || string(mac) != node) && !ValidName(node) {
				errs = append(errs, Invalidf(on+".nodes", "write a node's name, or its MAC address as 52:54:00:12:34:56", fmt.Errorf("%q is neither", node)))
			}
			errs = append(errs, taken(on+".nodes", node, script.Name, forNode[node]))
			forNode[node] = script.Name
		}
	}
	return errors.Join(errs...)
}

// taken is an error when another script is for the same machines already.
func taken(on, what, script, other string) error {
	if other == "" || other == script {
		return nil
	}
	return Invalidf(on, "", fmt.Errorf("script %q is for %s already", other, what))
}
