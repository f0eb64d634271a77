package engine

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestWhoHasLostItsIdentityIsAnotherMachine(t *testing.T) {
	type id struct{ uuid, serial string }
	tests := map[string]struct {
		was, now id
		changed  bool
	}{
		"the same":                                 {id{"u", "s"}, id{"u", "s"}, false},
		"both are others":                          {id{"u", "s"}, id{"v", "r"}, true},
		"a repaired board, another UUID":           {id{"u", "s"}, id{"v", "s"}, false},
		"a repaired board, another serial":         {id{"u", "s"}, id{"u", "r"}, false},
		"neither is said":                          {id{"u", "s"}, id{}, true},
		"the UUID is not said":                     {id{"u", "s"}, id{"", "s"}, true},
		"the serial is not said":                   {id{"u", "s"}, id{"u", ""}, true},
		"a board that never had a UUID":            {id{"", "s"}, id{"", "s"}, false},
		"a board without a UUID, which it has now": {id{"", "s"}, id{"u", "s"}, false},
		"a board without a UUID, another serial":   {id{"", "s"}, id{"", "r"}, true},
		"a guest without a serial":                 {id{"u", ""}, id{"u", ""}, false},
		"a guest without a serial, another UUID":   {id{"u", ""}, id{"v", ""}, true},
		"a board that never had either":            {id{}, id{}, false},
		"the first hello after a person let it in": {id{}, id{"v", "r"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := fleet.Node{UUID: tt.was.uuid, Inventory: fleet.Inventory{Serial: tt.was.serial}}
			if got := identityChanged(n, tt.now.uuid, fleet.Inventory{Serial: tt.now.serial}); got != tt.changed {
				t.Errorf("identityChanged = %t, want %t", got, tt.changed)
			}
		})
	}
}

// While a run installs a node, a stranger with its MAC address takes neither
// its key nor its trust.
func TestTrustIsForMachinesThatWeSwitchedOn(t *testing.T) {
	const id fleet.NodeID = "n-1"
	powered := []fleet.PhaseTime{{Phase: fleet.PhasePower, At: time.Unix(1, 0)}}
	tests := map[string]struct {
		uuid   string
		placed bool
		bmc    string
		times  []fleet.PhaseTime
		trust  fleet.Trust
		state  fleet.State
	}{
		"switched on by us, at its own address": {"u", true, "10.77.1.11", powered, fleet.T1, fleet.Installing},
		"at an address of nobody":               {"u", false, "10.77.1.11", powered, fleet.T0, fleet.Installing},
		"before we switched it on":              {"u", true, "10.77.1.11", nil, fleet.T0, fleet.Installing},
		"switched on by hand":                   {"u", true, "", powered, fleet.T0, fleet.Installing},
		"without the UUID that it had":          {"", true, "10.77.1.11", powered, fleet.T0, fleet.Quarantined},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				e, kill := newRack(ctx, t, 0).serve(&memoryStore{world: fleet.World{
					Site: testSite(),
					Nodes: []fleet.Node{{
						ID: id, MAC: deskMAC, UUID: "u", State: fleet.Installing, Stage: "prd", Pool: "prd", Approved: true, Run: "r-1", BootKey: "k",
						BMC: fleet.BMC{Address: tt.bmc},
					}},
					Runs: []fleet.Run{{ID: "r-1", State: fleet.RunDone, Nodes: []fleet.RunNode{{Node: id, State: fleet.RunRunning, Times: tt.times}}}},
				}})
				secret, err := e.MintHello(ctx, deskMAC, deskAddr)
				if err != nil {
					t.Fatal(err)
				}
				hello := fleet.Hello{Ticket: secret, Key: fleet.HashSecret("a"), Addr: netip.MustParseAddr("10.77.0.10"), Placed: tt.placed, BootID: "b", MAC: deskMAC, UUID: tt.uuid}
				n, err := e.Hello(ctx, hello)
				if err != nil || n.Trust != tt.trust || n.State != tt.state || (n.BootKey == "k") != (tt.state == fleet.Quarantined) {
					t.Errorf("Hello = T%d, %s, key %q, %v; want T%d, %s", n.Trust, n.State, n.BootKey, err, tt.trust, tt.state)
				}
				kill()
				stop()
				synctest.Wait()
			})
		})
	}
}
