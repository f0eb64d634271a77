package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

func lease6(i int) fleet.Lease6 {
	a := netip.MustParseAddr("fd77::100").As16()
	a[15] = byte(i)
	return fleet.Lease6{
		Addr: netip.AddrFrom16(a), Subnet: "rack6", DUID: fmt.Sprintf("00030001525400%06x", i), IAID: 0xfe000000 + uint32(i),
		MAC: node(i).MAC, State: fleet.LeaseBound, Expires: when.Add(time.Hour),
	}
}

func TestAnIPv6LeaseTakesThePlaceOfWhatItReplaces(t *testing.T) {
	with := func(l fleet.Lease6, change func(*fleet.Lease6)) fleet.Lease6 {
		change(&l)
		return l
	}
	one := lease6(1)
	elsewhere := with(one, func(l *fleet.Lease6) { l.Addr = lease6(2).Addr })
	side := with(elsewhere, func(l *fleet.Lease6) { l.IAID++; l.Side = true })
	system := with(one, func(l *fleet.Lease6) { l.DUID = "0004aa" })
	released := with(one, func(l *fleet.Lease6) { l.State = fleet.LeaseReleased })
	tests := map[string]saved[fleet.Lease6]{
		"an association that has another address now":    {[]fleet.Lease6{one, elsewhere}, []fleet.Lease6{elsewhere}},
		"two associations of one client":                 {[]fleet.Lease6{one, side}, []fleet.Lease6{one, side}},
		"the address that the next system took over":     {[]fleet.Lease6{one, released, system}, []fleet.Lease6{system}},
		"a released address, and another one after that": {[]fleet.Lease6{released, elsewhere}, []fleet.Lease6{released, elsewhere}},
	}
	checkKept(t, tests, (*store.Store).SaveLeases6, (*store.Store).Leases6)
}

func TestIPv6LeasesThatEndedLongAgoAreForgotten(t *testing.T) {
	s, _ := fresh(t)
	old, young := lease6(1), lease6(2)
	old.Expires = when.Add(-time.Hour)
	if err := s.SaveLeases6(t.Context(), []fleet.Lease6{old, young}); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetLeases6(t.Context(), when); err != nil {
		t.Fatal(err)
	}
	got, err := s.Leases6(t.Context())
	if diff := cmp.Diff([]fleet.Lease6{young}, got, asWritten); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestAnIPv4AddressIsNoIPv6Lease(t *testing.T) {
	s, _ := fresh(t)
	l := lease6(1)
	l.Addr = netip.MustParseAddr("10.77.0.1")
	if err := s.SaveLeases6(t.Context(), []fleet.Lease6{lease6(2), l}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("SaveLeases6 = %v, want an Invalid error", err)
	}
	if got, err := s.Leases6(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("Leases6 = %v, %v, want none", got, err)
	}
}

// An address has one holder, whatever the program does: who would take it from
// him is refused before he is told that he has it.
func TestTheTableRefusesASecondHolderOfAnIPv6Address(t *testing.T) {
	now := time.Now()
	on := func(addr, client int, ends time.Duration) fleet.Lease6 {
		l := lease6(client)
		l.Addr, l.Expires = lease6(addr).Addr, now.Add(ends)
		return l
	}
	as := func(l fleet.Lease6, state fleet.LeaseState) fleet.Lease6 { l.State = state; return l }
	otherCard := func(l fleet.Lease6) fleet.Lease6 { l.IAID++; return l }
	hour := time.Hour
	tests := map[string]struct {
		table, saved []fleet.Lease6
		refused      bool
		want         []fleet.Lease6
	}{
		"of an address that is held":            {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{on(1, 2, hour), on(3, 3, hour)}, true, []fleet.Lease6{on(1, 1, hour)}},
		"twice at once":                         {nil, []fleet.Lease6{on(1, 1, hour), on(1, 2, hour)}, true, nil},
		"of one DUID's other association":       {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{otherCard(on(1, 1, hour))}, true, []fleet.Lease6{on(1, 1, hour)}},
		"who has another one, and keeps it":     {[]fleet.Lease6{on(1, 1, hour), on(2, 2, hour)}, []fleet.Lease6{on(1, 2, hour)}, true, []fleet.Lease6{on(1, 1, hour), on(2, 2, hour)}},
		"who releases what is not his":          {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{as(on(1, 2, 0), fleet.LeaseReleased)}, true, []fleet.Lease6{on(1, 1, hour)}},
		"but not who renews":                    {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{on(1, 1, 2*hour)}, false, []fleet.Lease6{on(1, 1, 2*hour)}},
		"but not after it ended":                {[]fleet.Lease6{on(1, 1, -hour)}, []fleet.Lease6{on(1, 2, hour)}, false, []fleet.Lease6{on(1, 2, hour)}},
		"but not after the first one left it":   {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{on(2, 1, hour), on(1, 2, hour)}, false, []fleet.Lease6{on(1, 2, hour), on(2, 1, hour)}},
		"but not after the first one's release": {[]fleet.Lease6{on(1, 1, hour)}, []fleet.Lease6{as(on(1, 1, hour), fleet.LeaseReleased), on(1, 2, hour)}, false, []fleet.Lease6{on(1, 2, hour)}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := fresh(t)
			if err := s.SaveLeases6(t.Context(), tt.table); err != nil {
				t.Fatal(err)
			}
			err := s.SaveLeases6(t.Context(), tt.saved)
			held, refused := errors.AsType[*fleet.HeldError](err)
			if refused != tt.refused || refused && (fleet.CodeOf(err) != fleet.CodeLeaseTwice || fleet.KindOf(err) != fleet.Conflict) {
				t.Fatalf("SaveLeases6 = %v, want refused: %v", err, tt.refused)
			}
			if refused && (held.Stands.Addr != held.Refused.Addr || held.Stands.DUID == held.Refused.DUID && held.Stands.IAID == held.Refused.IAID) {
				t.Errorf("stands %+v, refused %+v", held.Stands, held.Refused)
			}
			got, err := s.Leases6(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, asWritten); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
