package engine

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

// A ticket is good once; its holder may repeat itself, and anybody else puts
// the node into quarantine, from which a person lets it out.
func TestATicketThatIsRedeemedByTwoPutsTheNodeIntoQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 0)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		addr := netip.MustParseAddr("10.77.0.10")
		const mac fleet.MAC = "52:54:00:00:00:01"
		secret, err := e.MintHello(ctx, mac, addr)
		if err != nil {
			t.Fatal(err)
		}
		hello := fleet.Hello{Ticket: secret, Key: fleet.HashSecret("a"), Addr: addr, BootID: "b", MAC: mac}
		elsewhere := hello
		elsewhere.Addr = netip.MustParseAddr("10.77.0.11")
		if _, err := e.Hello(ctx, elsewhere); fleet.CodeOf(err) != "E-TICKET" {
			t.Errorf("Hello from another address = %v, want E-TICKET", err)
		}
		for range 2 {
			if _, err := e.Hello(ctx, hello); err != nil {
				t.Fatalf("Hello by its holder: %v", err)
			}
		}
		thief := hello
		thief.Key = fleet.HashSecret("c")
		if _, err := e.Hello(ctx, thief); fleet.CodeOf(err) != "E-TICKET" {
			t.Errorf("Hello by somebody else = %v, want E-TICKET", err)
		}
		if n, _ := e.NodeByMAC(mac); n.State != fleet.Quarantined || n.Failure.Code != "E-TICKET-TWICE" {
			t.Errorf("the node is %s (%+v), want quarantined", n.State, n.Failure)
		}
		if n, err := e.Approve(ctx, "anna", string(mac)); err != nil || n.State != fleet.Ready {
			t.Errorf("Approve = %s, %v; want ready", n.State, err)
		}
		kill()
		stop()
		synctest.Wait()
	})
}
