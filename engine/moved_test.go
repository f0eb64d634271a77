package engine

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

// A system that has heard of its link and has no IPv6 address yet calls from a
// link-local one. Its Swarm would be told to advertise that.
func TestANodeIsReachedByTheAddressThatOthersCanUse(t *testing.T) {
	tests := map[string]struct{ from, want string }{
		"another address":      {"fd77::1a42", "fd77::1a42"},
		"a link-local one":     {"fe80::5054:ff:fe77:1%rack0", "10.77.0.10"},
		"a link-local of IPv4": {"169.254.3.4", "10.77.0.10"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				d := &ticketDesk{t: t, rack: newRack(ctx, t, 0), store: &memoryStore{world: fleet.World{Site: testSite()}}}
				d.e, d.kill = d.rack.serve(d.store)
				d.want("hello", d.hello(d.mint(), "mine"), "")
				n, _ := d.e.NodeByMAC(deskMAC)
				if err := d.e.moved(t.Context(), n, fleet.Session{Node: n.ID, Addr: netip.MustParseAddr(tt.from)}); err != nil {
					t.Fatal(err)
				}
				n, _ = d.e.NodeByMAC(deskMAC)
				d.want("address", n.Addr.String(), tt.want)
				d.kill()
				stop()
				synctest.Wait()
			})
		})
	}
}
