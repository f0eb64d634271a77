package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// NodeByBMC returns the node whose BMC has a LAN port with this address.
func (e *Engine) NodeByBMC(mac fleet.MAC) (fleet.Node, bool) {
	e.world.mu.RLock()
	defer e.world.mu.RUnlock()
	for _, n := range e.world.nodes {
		if mac != "" && n.Inventory.BMC.MAC == mac && n.State != fleet.Retired {
			return n, true
		}
	}
	return fleet.Node{}, false
}

// MoveBMC notes that a node's BMC got another address. An account of ours is
// tried there first: whoever took the address is not to be believed.
func (e *Engine) MoveBMC(ctx context.Context, id fleet.NodeID, addr string) error {
	n, ok := e.world.node(id)
	if !ok {
		return unknownNode(string(id))
	}
	if n.BMC.Own {
		if !e.enrolments.begin(id) {
			return nil // comes again
		}
		defer e.endEnrolment(id)
		at := n.BMC.Candidate(fleet.BMCAccount{Address: addr, Username: n.BMC.Username, SealedPassword: n.BMC.SealedPassword})
		if err := e.adopt(ctx, id, at, ""); err != nil {
			return err
		}
	}
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		n.Inventory.BMC.Address = addr
		if !n.BMC.Own && n.BMC.Factory != "" && n.BMC.Factory == n.BMC.Username {
			n.BMC.Address = addr // it is taken over there
			if n.BMC.Next.Open() {
				n.BMC.Next.Address = addr
			}
		}
		e.classify(t, &n)
		t.put(n)
		t.event(fleet.EventChanged, n, "engine", "its BMC has the address "+addr)
		return nil
	})
}

// AdoptBMC makes a BMC that was found the one of its node: of the machine that
// it says it is in, or of a new one. It gets an account of ours then, unless the
// node's rule has the BMC's address, and gives an account for there. One that a
// rule gives without is not told to who only says that he is the node's BMC.
func (e *Engine) AdoptBMC(ctx context.Context, f fleet.FoundBMC) (fleet.Node, error) {
	var node fleet.Node
	rotate := false
	err := e.update(ctx, func(t *tx) error {
		n, err := e.ownerOf(t, f)
		if err != nil {
			return err
		}
		n.Inventory.BMC = fleet.InventoryBMC{Present: true, Address: f.BMC.Address, MAC: f.MAC}
		n.Inventory.Arch = cmp.Or(n.Inventory.Arch, f.Arch) // its agent knows better
		r, ok := e.Site().MatchRule(n)
		begun := foundBegun(t.siteNow(), f)
		if !begun && !r.BMC.Keep {
			t.dropBegun(f.MAC)
		}
		came := f.BMC
		came.Factory = f.BMC.Username
		changed := begun && r.BMC.Username == f.BMC.Username && r.BMC.Driver.HasAccounts() // since the rule was written
		switch {
		case ok && r.BMC.Keep:
			t.put(n)
			return adoptError(f, errors.New("the rule of "+n.Title()+" leaves its BMC alone"), "")
		case ok && r.BMC.Usable() && !changed && isGiven(t.siteNow(), r.BMC, n, came): // it gives an account
			e.classify(t, &n)
		default:
			rotate = true
			came.Quirks, came.Findings = n.BMC.Quirks, n.BMC.Findings
			n.BMC = came.WithoutFindings(fleet.CodeBMCNoAddress, fleet.CodeBMCEnrol).WithFinding(fleet.CodeBMCFactory, "user "+f.BMC.Username)
			if ok && r.BMC.Withholds(n.BMC, n.Inventory.BMC.Address) {
				e.classify(t, &n) // all but its BMC's account
			}
		}
		t.put(n)
		t.event(fleet.EventAccess, n, "engine", fmt.Sprintf("BMC %s at %s let us in as %s, which it came with", f.MAC, f.BMC.Address, f.BMC.Username))
		node = n
		return nil
	})
	if err != nil || !rotate || e.Vault == nil {
		return node, err
	}
	return e.TakeOverBMC(ctx, node.ID)
}

// isGiven reports whether a BMC that was found gets to see the account that the
// rule of its node gives. One that has it already, or came with it, does.
func isGiven(site fleet.Site, a fleet.BMCAccess, n fleet.Node, came fleet.BMC) bool {
	had := n.BMC.Address == came.Address && n.BMC.SealedPassword == a.SealedPassword
	with := slices.ContainsFunc(site.Factory, func(f fleet.FactoryAccount) bool {
		return f.SealedPassword == came.SealedPassword && f.Username == a.Username && f.PasswordFile == a.PasswordFile
	})
	return had || with || !a.Withholds(came, came.Address)
}

func adoptError(f fleet.FoundBMC, err error, hint string) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCStranger, Op: "adopt BMC", On: string(f.MAC), Err: err, Hint: hint}
}

// ownerOf returns the node that a BMC belongs to, or a new one. A BMC says
// itself which machine it is in: it never takes the place of another BMC.
func (e *Engine) ownerOf(t *tx, f fleet.FoundBMC) (fleet.Node, error) {
	matches := e.matchesOf(f)
	if len(matches) > 1 {
		return fleet.Node{}, adoptError(f, fmt.Errorf("it says that it is in %s and in %s", matches[0].Title(), matches[1].Title()), "")
	}
	if len(matches) == 1 {
		n := matches[0]
		has := n.Inventory.BMC.MAC
		if has != "" && has != f.MAC || has == "" && n.BMC.Usable() && n.BMC.Address != f.BMC.Address {
			return n, adoptError(f, fmt.Errorf("it says that it is in %s, which has another BMC", n.Title()), "")
		}
		if n.BMC.Own {
			return n, adoptError(f, fmt.Errorf("%s, which it says that it is in, has an account of ours there already", n.Title()), "")
		}
		return n, nil
	}
	if len(f.MACs) == 0 {
		return fleet.Node{}, adoptError(f, errors.New("it does not say which network cards its machine has"), "boot its machine from the network once")
	}
	n := fleet.Node{
		ID: fleet.NewNodeID(), MAC: f.MACs[0], MACs: slices.Clone(f.MACs), UUID: f.UUID, State: fleet.Discovered, FirstSeen: t.now,
		Inventory: fleet.Inventory{Vendor: f.Vendor, Product: f.Product, Serial: f.Serial},
	}
	t.event(fleet.EventDiscovered, n, "engine", "by its BMC: "+model(f.Vendor, f.Product, f.Serial))
	return n, nil
}

// matchesOf returns the nodes that a BMC may belong to: by its own address, by
// the machine's cards, its UUID or its serial number.
func (e *Engine) matchesOf(f fleet.FoundBMC) []fleet.Node {
	var found []fleet.Node
	for _, n := range e.Nodes() {
		cards := slices.ContainsFunc(f.MACs, func(m fleet.MAC) bool { return m == n.MAC || slices.Contains(n.MACs, m) })
		same := f.MAC != "" && n.Inventory.BMC.MAC == f.MAC || cards ||
			n.UUID != "" && (n.UUID == f.UUID || n.UUID == f.Swapped) ||
			f.Serial != "" && n.Inventory.Serial == f.Serial && n.Inventory.Vendor == f.Vendor
		if same && n.State != fleet.Retired {
			found = append(found, n)
		}
	}
	return found
}
