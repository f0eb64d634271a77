package engine

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

func foundBMC() fleet.FoundBMC {
	return fleet.FoundBMC{
		BMC: fleet.BMC{Driver: fleet.DriverIPMI, Address: bmcAddress, Username: "admin", SealedPassword: "factory", CipherSuite: 17},
		MAC: "aa:bb:cc:00:00:01", UUID: "11111111-0000-4000-8000-000000000001", Serial: "C0FFEE", Vendor: "Contoso", Product: "R1", Arch: "arm64",
		MACs: []fleet.MAC{"52:54:00:00:00:01", "52:54:00:00:00:02"},
	}
}

// newcomer is a node that said hello from the machine of foundBMC.
func newcomer(change func(n *fleet.Node)) []fleet.Node {
	n := fleet.Node{
		ID: "n-1", MAC: "52:54:00:00:00:02", MACs: []fleet.MAC{"52:54:00:00:00:02"}, State: fleet.Discovered, Revision: 1,
		Inventory: fleet.Inventory{Vendor: "QEMU", Serial: "1"},
	}
	change(&n)
	return []fleet.Node{n}
}

func TestAFoundBMCBelongsToItsMachine(t *testing.T) {
	tests := map[string]struct {
		nodes   []fleet.Node
		change  func(f *fleet.FoundBMC)
		access  fleet.BMCAccess
		code    fleet.Code
		rotated bool
	}{
		"a new one":   {nil, func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, "", true},
		"by a card":   {newcomer(func(*fleet.Node) {}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, "", true},
		"by its UUID": {newcomer(func(n *fleet.Node) { n.MAC, n.MACs, n.UUID = "52:54:00:00:00:09", nil, foundBMC().UUID }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, "", true},
		"by its serial number": {newcomer(func(n *fleet.Node) {
			n.MAC, n.MACs, n.Inventory = "52:54:00:00:00:09", nil, fleet.Inventory{Vendor: "Contoso", Serial: "C0FFEE"}
		}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, "", true},
		"by the BMC that it told of":                        {newcomer(func(n *fleet.Node) { n.MAC, n.MACs, n.Inventory.BMC.MAC = "52:54:00:00:00:09", nil, foundBMC().MAC }), func(f *fleet.FoundBMC) { f.MACs, f.UUID, f.Serial = nil, "", "" }, fleet.BMCAccess{}, "", true},
		"not a machine without cards":                       {nil, func(f *fleet.FoundBMC) { f.MACs = nil }, fleet.BMCAccess{}, fleet.CodeBMCStranger, false},
		"not one that has another":                          {newcomer(func(n *fleet.Node) { n.Inventory.BMC.MAC = "aa:bb:cc:00:00:99" }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, fleet.CodeBMCStranger, false},
		"not one whose BMC is ours":                         {newcomer(func(n *fleet.Node) { n.BMC = fleet.BMC{Own: true, Address: bmcAddress, SealedPassword: "sealed"} }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, fleet.CodeBMCStranger, false},
		"not one whose is elsewhere":                        {newcomer(func(n *fleet.Node) { n.BMC = fleet.BMC{Address: "10.77.1.99", SealedPassword: "sealed"} }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, fleet.CodeBMCStranger, false},
		"not one that is to be left":                        {newcomer(func(*fleet.Node) {}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{Keep: true}, fleet.CodeBMCStranger, false},
		"with the account of a rule, which has its address": {newcomer(func(n *fleet.Node) { n.Approved, n.State, n.Pool = true, fleet.Ready, "prd" }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{Address: bmcAddress, Username: "admin", PasswordFile: "f", SealedPassword: "given"}, "", false},
		"with the account of a rule, from before": {newcomer(func(n *fleet.Node) {
			n.Approved, n.State, n.Pool, n.BMC = true, fleet.Ready, "prd", fleet.BMC{Address: bmcAddress, Username: "admin", SealedPassword: "given"}
		}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{Username: "admin", PasswordFile: "f", SealedPassword: "given"}, "", false},
		"with the account of a rule, which it came with": {newcomer(func(n *fleet.Node) { n.Approved, n.State, n.Pool = true, fleet.Ready, "prd" }), func(*fleet.FoundBMC) {}, fleet.BMCAccess{Username: "admin", PasswordFile: "f of racks", SealedPassword: "factory of the rule"}, "", false},
		"not two machines at once":                       {append(newcomer(func(*fleet.Node) {}), fleet.Node{ID: "n-2", MAC: "52:54:00:00:00:01", State: fleet.Discovered, Revision: 1}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, fleet.CodeBMCStranger, false},
		"and another retired one of it": {newcomer(func(n *fleet.Node) {
			n.State = fleet.Retired
			n.MAC, n.MACs, n.UUID = "52:54:00:00:00:09", nil, foundBMC().UUID
		}), func(*fleet.FoundBMC) {}, fleet.BMCAccess{}, "", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRack(t.Context(), t, 0)
				r.bmc = newFakeBMC()
				s := &memoryStore{world: fleet.World{Site: enrolSite(tt.access), Nodes: tt.nodes}}
				s.world.Site.Factory = []fleet.FactoryAccount{{Username: "admin", PasswordFile: "f of racks", SealedPassword: "factory"}}
				e, kill := r.serve(s)
				f := foundBMC()
				tt.change(&f)
				n, err := e.AdoptBMC(t.Context(), f)
				if fleet.CodeOf(err) != tt.code || tt.code == "" && err != nil {
					t.Fatalf("AdoptBMC = %v (%s), want %q", err, fleet.CodeOf(err), tt.code)
				}
				if err == nil {
					checkAdopted(t, r, n, tt.rotated)
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

// Whoever takes an account that BMCs come with may say that it is the BMC of any
// machine. It is not told what a rule gives for whole racks: neither when it is
// found, nor when the site changes or its address, while it cannot be taken over.
func TestAPasswordOfARuleIsNotForABMCThatOnlySaysWhoseItIs(t *testing.T) {
	given := func(user string) fleet.BMCAccess {
		return fleet.BMCAccess{Username: user, PasswordFile: "f", SealedPassword: "given"}
	}
	approved := func() []fleet.Node {
		return newcomer(func(n *fleet.Node) { n.Approved, n.State, n.Pool = true, fleet.Ready, "prd" })
	}
	tests := map[string]struct {
		nodes  []fleet.Node
		access fleet.BMCAccess
		maker  bool
		user   string // ours in the end
	}{
		"of a machine that is new":                {nil, given("ops"), true, fleet.OwnUser},
		"of one that has been approved":           {approved(), given("ops"), true, fleet.OwnUser},
		"on which no account can be made":         {approved(), given("ops"), false, "admin"},
		"whose account has the name of the given": {approved(), given("admin"), true, "admin"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRack(t.Context(), t, 0)
				r.bmc = newFakeBMC()
				r.bmc.maker, r.bmc.silent = tt.maker, true
				s := &memoryStore{world: fleet.World{Site: enrolSite(tt.access), Nodes: tt.nodes}}
				e, kill := r.serve(s)
				if _, err := e.AdoptBMC(t.Context(), foundBMC()); err == nil {
					t.Error("a BMC that does not answer was adopted without a word")
				}
				if n := s.only(t); !n.Approved {
					t.Errorf("the rule that is for it was not heard: %+v", n)
				}
				anew := tt.access
				anew.SealedPassword = "given anew"
				if _, err := e.Apply(t.Context(), "ada", enrolSite(anew), false); err != nil {
					t.Fatal(err)
				}
				if err := e.MoveBMC(t.Context(), s.only(t).ID, "10.77.1.50"); err != nil {
					t.Fatal(err)
				}
				if n := s.only(t); n.BMC.Address != "10.77.1.50" || n.BMC.SealedPassword != "factory" || n.BMC.Own {
					t.Errorf("before it is ours the BMC is %+v", n.BMC)
				}
				r.bmc.change(func(b *fakeBMC) { b.silent, b.address = false, "10.77.1.50" })
				n, err := e.TakeOverBMC(t.Context(), s.only(t).ID)
				if err != nil || !n.BMC.Own || n.BMC.Username != tt.user || !r.bmc.opens(n) || len(codes(n)) > 0 {
					t.Errorf("TakeOverBMC = %+v, %v, want user %s", n.BMC, err, tt.user)
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

func checkAdopted(t *testing.T, r *rack, n fleet.Node, rotated bool) {
	t.Helper()
	if n.BMC.Own != rotated || n.BMC.Address != bmcAddress || rotated && !r.bmc.opens(n) || n.Inventory.BMC.MAC != foundBMC().MAC {
		t.Errorf("the node is %+v with BMC %+v, want rotated %t", n, n.BMC, rotated)
	}
	if n.Inventory.Arch != "arm64" {
		t.Errorf("its architecture is %q", n.Inventory.Arch)
	}
	if slices.Contains(codes(n), fleet.CodeBMCFactory) {
		t.Error("the password that it came with still counts as used")
	}
}

func TestAPasswordThatStaysAsItCameIsAFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t.Context(), t, 0)
		r.bmc = newFakeBMC()
		r.bmc.change(func(b *fakeBMC) { b.deaf = true })
		s := &memoryStore{world: fleet.World{Site: enrolSite(fleet.BMCAccess{})}}
		e, kill := r.serve(s)
		if _, err := e.AdoptBMC(t.Context(), foundBMC()); err == nil {
			t.Error("a BMC that keeps its password was adopted without a word")
		}
		if n := s.only(t); !slices.Equal(codes(n), []string{fleet.CodeBMCFactory}) || n.BMC.Own || n.BMC.SealedPassword != "factory" {
			t.Errorf("the BMC is %+v, want a finding", n.BMC)
		}
		kill()
		synctest.Wait()
	})
}

func TestABMCThatMovedIsFollowedWhenItIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := enrolRack(t, fleet.BMCAccess{}, func(*fakeBMC) {})
		e, kill := r.serve(s)
		r.press()
		n := s.only(t)
		if err := e.MoveBMC(t.Context(), n.ID, "10.77.1.50"); err == nil { // where nobody knows our password
			t.Error("a stranger at another address was believed")
		}
		if got := s.only(t); got.BMC.Address != bmcAddress {
			t.Errorf("the BMC is at %s", got.BMC.Address)
		}
		r.bmc.change(func(b *fakeBMC) { b.address = "10.77.1.50" })
		if err := e.MoveBMC(t.Context(), n.ID, "10.77.1.50"); err != nil {
			t.Error(err)
		}
		if got := s.only(t); got.BMC.Address != "10.77.1.50" || !r.bmc.opens(got) || !got.BMC.Own {
			t.Errorf("the BMC is %+v", got.BMC)
		}
		r.unplug()
		kill()
		synctest.Wait()
	})
}
