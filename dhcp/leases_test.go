package dhcp

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func lease(addr string, mac fleet.MAC, ends time.Time) fleet.Lease {
	return fleet.Lease{Addr: netip.MustParseAddr(addr), MAC: mac, Expires: ends}
}

func TestLeasesOfAnotherServerAreTakenOver(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	close(ts.ready)
	held := ts.lease(macA) // 10.77.0.100
	ends := ts.clock.Add(time.Hour)
	const macC, macD = "52:54:00:00:00:0c", "52:54:00:00:00:0d"
	leases := []fleet.Lease{
		lease("10.77.0.101", macB, ends), lease(held, macC, ends), lease("10.77.0.102", macA, ends), lease("10.77.0.103", macB, ends),
		lease("10.88.0.9", macC, ends), lease("10.77.0.1", macC, ends), lease("10.77.0.50", macC, ts.clock), lease("10.77.0.200", macD, ends),
	}
	why := map[string]string{
		held: "held by " + string(macA), "10.77.0.102": string(macA) + " has " + held, "10.77.0.103": string(macB) + " has 10.77.0.101 in the same file",
		"10.88.0.9": "outside of every declared subnet", "10.77.0.1": "the address of the router, or of this server", "10.77.0.50": "expired",
	}
	for _, dryRun := range []bool{true, false} {
		got, err := ts.Import(t.Context(), leases, "", dryRun)
		if err != nil || got.Taken != 2 || got.Known != 0 || len(got.Refused) != len(why) {
			t.Fatalf("Import = %+v, %v; want two taken", got, err)
		}
		for _, r := range got.Refused {
			if r.Reason != why[r.Addr.String()] {
				t.Errorf("%s: %q, want %q", r.Addr, r.Reason, why[r.Addr.String()])
			}
		}
		if n := len(ts.Leases("rack", netip.Addr{}, 10)); (n == 1) != dryRun {
			t.Errorf("%d leases after an import with dryRun = %t", n, dryRun)
		}
	}
	if got, err := ts.Import(t.Context(), leases[:1], "", false); err != nil || got.Known != 1 {
		t.Errorf("Import once more = %+v, %v; want that it is known", got, err)
	}
	if got, _ := ts.Import(t.Context(), leases[7:], "other", false); len(got.Refused) != 1 {
		t.Errorf("Import for another subnet = %+v, want it refused", got)
	}
	// The client finds its address here, also after a restart: it was on disk.
	ts.start(rackSubnet(fleet.Full))
	if got := ts.ask(packet(macB, discover)); got == nil || got.YourIPAddr.String() != "10.77.0.101" {
		t.Errorf("offer = %v, want the address that the other server gave", got)
	}
}

func TestAnImportThatCannotBeStoredTakesNothing(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	close(ts.ready)
	ts.leases.broken = errors.New("no space left on device")
	got, err := ts.Import(t.Context(), []fleet.Lease{lease("10.77.0.101", macB, ts.clock.Add(time.Hour))}, "", false)
	if fleet.CodeOf(err) != fleet.CodeLeasesUnsaved || got.Taken != 0 {
		t.Errorf("Import = %+v, %v; want an error, and nothing taken", got, err)
	}
	if list := ts.Leases("", netip.Addr{}, 10); len(list) != 0 {
		t.Errorf("Leases = %+v, want none", list)
	}
}

func TestALeaseIsReleasedByAnOperator(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	held := netip.MustParseAddr(ts.lease(macA))
	if l, err := ts.Release(t.Context(), held); err != nil || l.MAC != macA {
		t.Errorf("Release = %+v, %v", l, err)
	}
	if _, ok := ts.LeaseByAddr(held); ok {
		t.Error("the address is held still")
	}
	if _, err := ts.Release(t.Context(), held); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("Release again = %v, want that nobody has it", err)
	}
}

func TestLeasesAreListedPageByPage(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	for _, mac := range []fleet.MAC{"52:54:00:00:00:01", "52:54:00:00:00:02"} {
		ts.lease(mac)
	}
	var got []string
	for after := (netip.Addr{}); ; {
		page := ts.Leases("", after, 1)
		if len(page) == 0 {
			break
		}
		got, after = append(got, page[0].Addr.String()), page[0].Addr
	}
	if !slices.Equal(got, []string{"10.77.0.100", "10.77.0.101"}) {
		t.Errorf("pages = %q", got)
	}
}
