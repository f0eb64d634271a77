package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

func lease(i int) fleet.Lease {
	return fleet.Lease{
		Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Subnet: "rack",
		MAC: node(i).MAC, ClientID: fmt.Sprintf("01525400%06x", i), Hostname: fmt.Sprintf("host-%d", i),
		State: fleet.LeaseBound, Expires: when.Add(time.Hour),
	}
}

// saved is what was stored, and what is there then.
type saved[L any] struct{ saved, want []L }

func checkKept[L any](t *testing.T, tests map[string]saved[L], save func(*store.Store, context.Context, []L) error, load func(*store.Store, context.Context) ([]L, error)) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := fresh(t)
			if err := save(s, t.Context(), tt.saved); err != nil {
				t.Fatal(err)
			}
			got, err := load(s, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, asWritten); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestALeaseTakesThePlaceOfWhatItReplaces(t *testing.T) {
	with := func(l fleet.Lease, change func(*fleet.Lease)) fleet.Lease {
		change(&l)
		return l
	}
	one := lease(1)
	declined := with(one, func(l *fleet.Lease) { l.State = fleet.LeaseDeclined })
	elsewhere := with(one, func(l *fleet.Lease) { l.Addr = lease(2).Addr })
	tests := map[string]saved[fleet.Lease]{
		"a renewal": {
			[]fleet.Lease{one, with(one, func(l *fleet.Lease) { l.Expires = when.Add(2 * time.Hour) })},
			[]fleet.Lease{with(one, func(l *fleet.Lease) { l.Expires = when.Add(2 * time.Hour) })},
		},
		"an address that another client has now": {
			[]fleet.Lease{one, with(lease(2), func(l *fleet.Lease) { l.Addr = one.Addr })},
			[]fleet.Lease{with(lease(2), func(l *fleet.Lease) { l.Addr = one.Addr })},
		},
		"a client that has another address now": {
			[]fleet.Lease{one, elsewhere},
			[]fleet.Lease{elsewhere},
		},
		"a client that declined an address and got another": {
			[]fleet.Lease{declined, elsewhere},
			[]fleet.Lease{declined, elsewhere},
		},
		"a client on two subnets": {
			[]fleet.Lease{one, with(elsewhere, func(l *fleet.Lease) { l.Subnet = "other" })},
			[]fleet.Lease{one, with(elsewhere, func(l *fleet.Lease) { l.Subnet = "other" })},
		},
		"two programs on one card": { // firmware and system identify themselves differently
			[]fleet.Lease{one, with(elsewhere, func(l *fleet.Lease) { l.ClientID = "" })},
			[]fleet.Lease{with(elsewhere, func(l *fleet.Lease) { l.ClientID = "" })},
		},
		"a client that came back to what it had first": {
			[]fleet.Lease{one, elsewhere, one},
			[]fleet.Lease{one},
		},
		"an address that went from one to another and back": {
			[]fleet.Lease{one, with(lease(2), func(l *fleet.Lease) { l.Addr = one.Addr }), with(lease(3), func(l *fleet.Lease) { l.Addr = lease(2).Addr; l.MAC = one.MAC }), one},
			[]fleet.Lease{one},
		},
		"two clients without an identifier": {
			[]fleet.Lease{with(one, func(l *fleet.Lease) { l.ClientID = "" }), with(lease(2), func(l *fleet.Lease) { l.ClientID = "" })},
			[]fleet.Lease{with(one, func(l *fleet.Lease) { l.ClientID = "" }), with(lease(2), func(l *fleet.Lease) { l.ClientID = "" })},
		},
	}
	checkKept(t, tests, (*store.Store).SaveLeases, (*store.Store).Leases)
}

func TestABatchOfLeasesIsStoredWholeOrNotAtAll(t *testing.T) {
	s, _ := fresh(t)
	v6 := lease(2)
	v6.Addr = netip.MustParseAddr("2001:db8::1")
	if err := s.SaveLeases(t.Context(), []fleet.Lease{lease(1), v6}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("SaveLeases = %v, want an Invalid error", err)
	}
	if got, err := s.Leases(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("Leases = %v, %v, want none", got, err)
	}
}

func TestAnEmptyBatchIsFine(t *testing.T) {
	s, _ := fresh(t)
	if err := s.SaveLeases(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
