package store_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/fleet"
)

func TestRelaysAreKeptUntilTheyAreDeleted(t *testing.T) {
	s, _ := fresh(t)
	west := fleet.Relay{
		Name: "west", Subnets: []string{"west-boot"}, Created: when, By: "anna", Token: fleet.HashSecret("x"), TokenExpires: when,
		Enrolled: when, Key: fleet.HashSecret("y"), Places: []fleet.RelayAt{{Subnet: "west-boot", Addr: netip.MustParseAddr("10.78.0.1")}},
	}
	must(t, s.SaveRelay(t.Context(), west))
	must(t, s.SaveRelay(t.Context(), fleet.Relay{Name: "east"}))
	west.By = "berta"
	must(t, s.SaveRelay(t.Context(), west))
	got, err := s.Relays(t.Context())
	must(t, err)
	if diff := cmp.Diff([]fleet.Relay{{Name: "east"}, west}, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("relays (-want +got):\n%s", diff)
	}
	must(t, s.DeleteRelay(t.Context(), "east"))
	must(t, s.DeleteRelay(t.Context(), "east"))
	if got, err = s.Relays(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("after the deletion: %v, %v; want one", got, err)
	}
}
