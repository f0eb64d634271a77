package store

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"

	"github.com/rackstage/provision/fleet"
)

// backTo takes migrations back until the last one that is left has this ID.
func backTo(t *testing.T, s *Store, id string) error {
	t.Helper()
	for {
		done, err := s.migrationsDone(t.Context())
		if err != nil || done[len(done)-1] == id {
			return err
		}
		if err := gormigrate.New(s.write, migrateOptions(), migrations()).RollbackLast(); err != nil {
			return err
		}
	}
}

func heldLeases() []fleet.Lease {
	ends := time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []fleet.Lease
	for i := range byte(9) {
		l := fleet.Lease{
			Addr: netip.AddrFrom4([4]byte{10, 0, 0, 10 + i}), MAC: fleet.MAC(fmt.Sprintf("52:54:00:00:00:%02x", i)), Subnet: "rack",
			State: fleet.LeaseBound, Expires: ends.Add(time.Duration(i)), Hostname: fmt.Sprintf("n%d", i),
		}
		if i%3 > 0 {
			l.ClientID = fmt.Sprintf("01525400%02x", i-i%3) // each two share one
		}
		all = append(all, l)
	}
	all[7].State, all[8].State = fleet.LeaseReleased, fleet.LeaseDeclined
	return all
}

// A program of before has in its table what clients hold; the one of now finds it
// again when it comes back.
func TestTakingTheSchemaBackKeepsLeases(t *testing.T) {
	s := openFresh(t)
	want := heldLeases()
	if err := s.SaveLeases(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	err := backTo(t, s, "0003-relays")
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(fleet.HintOf(err), s.path+".schema-0003-relays") || !s.write.Migrator().HasTable("lease_journals") {
		t.Fatalf("with leases in a journal: %v, want a conflict that names the copy", err)
	}
	if err := s.MergeLeases(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := backTo(t, s, "0003-relays"); err != nil {
		t.Fatal(err)
	}
	var rows []oldLease
	if err := s.write.Order("addr").Find(&rows).Error; err != nil || len(rows) != len(want) {
		t.Fatalf("the older table has %d leases, %v; want %d", len(rows), err, len(want))
	}
	for i, row := range rows {
		if got, err := row.lease(); err != nil || got != want[i] {
			t.Errorf("the older table has %+v, %v; want %+v", got, err, want[i])
		}
	}
	if err := gormigrate.New(s.write, migrateOptions(), migrations()).Migrate(); err != nil {
		t.Fatal(err)
	}
	var got []fleet.Lease
	if err := s.EachLease(t.Context(), func(l fleet.Lease) { got = append(got, l) }); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b fleet.Lease) int { return a.Addr.Compare(b.Addr) })
	if !slices.Equal(got, want) {
		t.Errorf("the newer program finds %+v, want %+v", got, want)
	}
}

// There was no place for leases of IPv6 in the first schema.
func TestTakingTheSchemaBackRefusesWhatItWouldForget(t *testing.T) {
	s := openFresh(t)
	l := fleet.Lease6{Addr: netip.MustParseAddr("fd98::1"), Subnet: "rack6", DUID: "0003000152540000", IAID: 1, State: fleet.LeaseBound, Expires: time.Now().Add(time.Hour)}
	if err := s.SaveLeases6(t.Context(), []fleet.Lease6{l}); err != nil {
		t.Fatal(err)
	}
	err := backTo(t, s, "0001-spine")
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(fleet.HintOf(err), s.path+".schema-0001-spine") {
		t.Errorf("with a lease of IPv6: %v, want a conflict that names the copy", err)
	}
	l.State = fleet.LeaseReleased
	if err := s.SaveLeases6(t.Context(), []fleet.Lease6{l}); err != nil {
		t.Fatal(err)
	}
	if err := backTo(t, s, "0001-spine"); err != nil {
		t.Errorf("without: %v", err)
	}
}
