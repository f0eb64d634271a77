package engine

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

// Where a stranger is plugged in decides what it becomes; where a node is
// plugged in is kept up to date.
func TestARuleSeesThePortBeforeAnythingOfOursRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 0)
		site := testSite()
		site.Rules[0].Match = fleet.Match{CircuitPrefix: "ge-0/0/", RemotePrefix: "leaf-1"}
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: site}})
		addr := netip.MustParseAddr("10.77.0.10")
		at := fleet.Place{Subnet: "rack", Relay: netip.MustParseAddr("10.77.0.1"), CircuitID: "ge-0/0/7", RemoteID: "leaf-1"}
		for mac, want := range map[fleet.MAC]fleet.State{"52:54:00:00:00:01": fleet.Ready, "52:54:00:00:00:02": fleet.Discovered} {
			if want == fleet.Ready {
				e.Observe(fleet.Evidence{MAC: mac, Phase: fleet.PhaseDHCP, Place: at})
				synctest.Wait()
			}
			secret, err := e.MintHello(ctx, mac, addr)
			if err != nil {
				t.Fatal(err)
			}
			n, err := e.Hello(ctx, fleet.Hello{Ticket: secret, Key: fleet.HashSecret("a"), Addr: addr, BootID: "b", MAC: mac})
			if err != nil || n.State != want || (n.Place == at) != (want == fleet.Ready) {
				t.Errorf("%s: %s at %+v, %v, want %s", mac, n.State, n.Place, err, want)
			}
		}
		moved := at
		moved.CircuitID = "xe-1/0/0"
		e.Observe(fleet.Evidence{MAC: "52:54:00:00:00:01", Phase: fleet.PhaseDHCP, Place: moved})
		e.Observe(fleet.Evidence{MAC: "52:54:00:00:00:01", Phase: fleet.PhaseLoader}) // says nothing about it
		synctest.Wait()
		if n, _ := e.NodeByMAC("52:54:00:00:00:01"); n.Place != moved {
			t.Errorf("the node is at %+v, want %+v", n.Place, moved)
		}
		kill()
		stop()
		synctest.Wait()
	})
}

func TestStrangersPlacesAreBounded(t *testing.T) {
	var p places
	for i := range 2 * maxPlaces {
		p.note(fleet.MAC(fmt.Sprintf("%x", i)), fleet.Place{Subnet: "rack"})
	}
	if len(p.of) != maxPlaces {
		t.Errorf("%d places are kept, want %d", len(p.of), maxPlaces)
	}
	if last := fleet.MAC(fmt.Sprintf("%x", 2*maxPlaces-1)); p.take(last).Subnet != "rack" || p.take(last).Subnet != "" {
		t.Error("a place is not taken once")
	}
}
