package engine

import (
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

// An account of a rule may be the one whose password a BMC wants to have changed
// before anything else. Nobody has what it got but us.
func TestAnAccountOfARuleThatHadToBeChangedStaysOurs(t *testing.T) {
	tests := map[string]struct {
		nodes  []fleet.Node
		access fleet.BMCAccess
	}{
		"of a new machine":                {nil, fleet.BMCAccess{Username: "admin", PasswordFile: "f", SealedPassword: "factory"}},
		"of one that has been approved":   {newcomer(func(n *fleet.Node) { n.Approved, n.State, n.Pool = true, fleet.Ready, "prd" }), fleet.BMCAccess{Username: "admin", PasswordFile: "f", SealedPassword: "factory"}},
		"where the rule gives us no more": {nil, fleet.BMCAccess{Username: "admin"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRack(t.Context(), t, 0)
				r.bmc = newFakeBMC()
				r.bmc.maker, r.bmc.deaf = true, true
				r.bmc.users["admin"] = "begun"
				f := foundBMC()
				f.BMC.SealedPassword = "begun"
				s := &memoryStore{world: fleet.World{Site: enrolSite(tt.access), Nodes: tt.nodes}}
				s.world.Site.Factory = []fleet.FactoryAccount{{Username: "admin", PasswordFile: "f", SealedPassword: "factory"}}
				s.world.Site.Begun = []fleet.FactoryAccount{{MACPrefix: string(f.MAC), Username: "admin", SealedPassword: "begun"}}
				e, kill := r.serve(s)
				if _, err := e.AdoptBMC(t.Context(), f); err == nil {
					t.Error("a BMC that keeps its password was adopted without a word")
				}
				if _, err := e.Apply(t.Context(), "ada", s.world.Site, false); err != nil {
					t.Fatal(err)
				}
				if n := s.only(t); n.BMC.Own || !r.bmc.opens(n) || !holdsBegun(e.Site(), n) {
					t.Errorf("before it is the node's own the BMC is %+v, begun %+v", n.BMC, e.Site().Begun)
				}
				r.bmc.change(func(b *fakeBMC) { b.deaf = false })
				n, err := e.TakeOverBMC(t.Context(), s.only(t).ID)
				if err != nil || !n.BMC.Own || n.BMC.Username != "admin" || !r.bmc.opens(n) || len(codes(n)) > 0 || len(e.Site().Begun) > 0 {
					t.Errorf("TakeOverBMC = %+v, %v; begun %+v", n.BMC, err, e.Site().Begun)
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

func TestNobodyChangesThePasswordOfABMCThatIsToBeLeftAlone(t *testing.T) {
	mac := foundBMC().MAC
	told := func(n *fleet.Node) { n.Inventory.BMC = fleet.InventoryBMC{Present: true, MAC: mac} }
	keep := fleet.Rule{Name: "theirs", Match: fleet.Match{Vendor: "Acme"}, Pool: "prd", BMC: fleet.BMCAccess{Keep: true}}
	tests := map[string]struct {
		nodes []fleet.Node
		rules []fleet.Rule
		code  fleet.Code
	}{
		"whose rule says so":          {newcomer(func(n *fleet.Node) { told(n); n.Inventory.Vendor = "Acme" }), []fleet.Rule{keep}, fleet.CodeBMCStranger},
		"whose rule is not known yet": {nil, []fleet.Rule{keep}, fleet.CodeBMCStranger},
		"unlike one of another rule":  {newcomer(told), []fleet.Rule{keep}, ""},
		"unlike any where none does":  {nil, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRack(t.Context(), t, 0)
				r.bmc = newFakeBMC()
				s := &memoryStore{world: fleet.World{Site: testSite(), Nodes: tt.nodes}}
				s.world.Site.Rules = append(tt.rules, s.world.Site.Rules...)
				e, kill := r.serve(s)
				sealed, err := e.BeginBMC(t.Context(), mac, "root", 0)
				if fleet.CodeOf(err) != tt.code || (sealed == "") != (tt.code != "") || len(e.Site().Begun) != min(1, len(sealed)) {
					t.Errorf("BeginBMC = %q, %v; begun %+v, want %q", sealed, err, e.Site().Begun, tt.code)
				}
				if err != nil && fleet.HintOf(err) == "" {
					t.Errorf("nobody says what to do about: %v", err)
				}
				kill()
				synctest.Wait()
			})
		})
	}
}
