package dhcp

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// listedLeases are read in their order, until an error.
type listedLeases struct {
	memoryLeases
	all []fleet.Lease
	err error
}

func (l *listedLeases) EachLease(_ context.Context, do func(fleet.Lease)) error {
	for _, lease := range l.all {
		do(lease)
	}
	return l.err
}

// Leases go to the book some at a time; of an address that is there twice, the
// later lease counts, however far they are apart.
func TestLeasesAreEnteredInTheOrderInWhichTheyAreRead(t *testing.T) {
	ts := newTestServer(t, wideSubnet())
	list := &listedLeases{}
	of := func(i int, mac fleet.MAC) fleet.Lease {
		return fleet.Lease{
			Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Subnet: "rack", MAC: mac,
			State: fleet.LeaseBound, Expires: ts.clock.Add(time.Hour),
		}
	}
	const count = 5*loadEach + 1
	for i := range count - 1 {
		list.all = append(list.all, of(i, macOf(hwaddr{0x52, 0x54, 1, byte(i >> 16), byte(i >> 8), byte(i)})))
	}
	list.all = append(list.all, of(7, macA))
	ts.o.Leases = list
	if n, err := ts.load(t.Context()); n != count || err != nil {
		t.Errorf("load = %d, %v; want %d", n, err, count)
	}
	for i := range count - 1 {
		want := list.all[i]
		if i == 7 {
			want = list.all[count-1]
		}
		if got, ok := ts.LeaseByAddr(want.Addr); !ok || got.MAC != want.MAC {
			t.Fatalf("lease %d is %+v, want that of %s", i, got, want.MAC)
		}
	}
	list.err = errors.New("the disk is broken")
	if n, err := ts.load(t.Context()); n != 0 || !errors.Is(err, list.err) {
		t.Errorf("load = %d, %v; want the error", n, err)
	}
}
