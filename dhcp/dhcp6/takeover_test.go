package dhcp6

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

func leaseOf(addr string, v voice, mac fleet.MAC, ends time.Time) fleet.Lease6 {
	return fleet.Lease6{Addr: netip.MustParseAddr(addr), DUID: v.duid, IAID: v.iaid, MAC: mac, Expires: ends}
}

func TestLeasesOfAnotherServerAreTakenOver(t *testing.T) {
	n := rack6()
	n.Reservations = []fleet.Reservation{{MAC: "52:54:00:00:00:99", Addr: netip.MustParseAddr("fd98::1099")}}
	b := newBench(t, n, remote6())
	close(b.ready)
	held := b.boot(t, agent)
	ends := start.Add(10 * time.Hour)
	no := func(duid string) voice { return voice{duid: duid, iaid: 1} }
	leases := []fleet.Lease6{
		leaseOf("fd98::1234", strangerNo(1), "", ends), leaseOf("fd99::1234", strangerNo(1), "", ends), // once on each subnet
		leaseOf("fd98::1235", strangerNo(1), "", ends), leaseOf(held.String(), strangerNo(2), "", ends),
		leaseOf("fd98::1236", agent, "", ends), leaseOf(held.String(), agent, "", start.Add(time.Minute)),
		leaseOf("fd98::1237", no("0004"), "", ends), leaseOf("fd98::1238", no("0004abzz"), "", ends), leaseOf("fd98::1239", strangerNo(3), "", start),
		leaseOf("fd77::1", strangerNo(3), "", ends), leaseOf("fd98::1", strangerNo(3), "", ends), leaseOf("fd98::1099", strangerNo(3), "", ends),
		leaseOf("10.77.0.1", strangerNo(3), "", ends),
	}
	want := []string{
		"fd98::1235 52:54:00:00:00:02 has fd98::1234 in the same file", held.String() + " held by " + string(theMAC),
		"fd98::1236 " + string(theMAC) + " has " + held.String(), "fd98::1237 without a DUID", "fd98::1238 without a DUID", "fd98::1239 expired",
		"fd77::1 outside of every declared subnet", "fd98::1 the address of the router, or of this server",
		"fd98::1099 reserved for 52:54:00:00:00:99", "10.77.0.1 not an IPv6 address",
	}
	saved := len(b.file.saved)
	for _, dryRun := range []bool{true, false} {
		got, err := b.Import(t.Context(), leases, "", dryRun)
		var refused []string
		for _, r := range got.Refused {
			refused = append(refused, r.Addr.String()+" "+r.Reason)
		}
		if err != nil || got.Taken != 2 || got.Known != 1 || !slices.Equal(refused, want) {
			t.Fatalf("Import = %+v, %v; want two taken, one known, and refused %q", got, err, want)
		}
		if stored := len(b.file.saved) - saved; (stored == 2) == dryRun {
			t.Errorf("dryRun %t: %d leases stored", dryRun, stored)
		}
	}
	if got, err := b.Import(t.Context(), leases[:1], "", false); err != nil || got.Known != 1 {
		t.Errorf("Import once more = %+v, %v; want that it is known", got, err)
	}
	if got, err := b.Import(t.Context(), leases[:1], "remote6", false); err != nil || len(got.Refused) != 1 || got.Refused[0].Reason != "on subnet rack6" {
		t.Errorf("Import for another subnet = %+v, %v; want it refused", got, err)
	}
}

// Not every server writes down which card a client has, and not every DUID
// tells. Whoever speaks as before has its address, and nobody else.
func TestAMachineFindsTheAddressThatAnotherServerGave(t *testing.T) {
	addr := netip.MustParseAddr("fd98::1234")
	tests := map[string]struct {
		lease fleet.Lease6
		who   voice
		same  bool
	}{
		"its DUID tells the card":          {leaseOf(addr.String(), strangerNo(7), "", start.Add(time.Hour)), strangerNo(7), true},
		"nothing tells the card":           {leaseOf(addr.String(), linux, "", start.Add(time.Hour)), linux, true},
		"the file tells the card":          {leaseOf(addr.String(), agent, theMAC, start.Add(time.Hour)), ipxe, true},
		"another with the same DUID":       {leaseOf(addr.String(), linux, "52:54:00:00:00:77", start.Add(time.Hour)), linux, false},
		"another association of that DUID": {leaseOf(addr.String(), voice{duid: linux.duid, iaid: linux.iaid + 1}, "", start.Add(time.Hour)), linux, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			close(b.ready)
			if got, err := b.Import(t.Context(), []fleet.Lease6{tt.lease}, "", false); err != nil || got.Taken != 1 {
				t.Fatalf("Import = %+v, %v", got, err)
			}
			if got := addressIn(b.hear(t, tt.who, tt.who.say(t, dhcpv6.MessageTypeRenew, b.id, addr))); (got == addr) != tt.same {
				t.Errorf("it renews %s and gets %s", addr, got)
			}
			if got := b.boot(t, tt.who); (got == addr) != tt.same {
				t.Errorf("it boots and gets %s", got)
			}
		})
	}
}

func TestAnImportThatCannotBeStoredTakesNothing(t *testing.T) {
	b := newBench(t)
	lease := []fleet.Lease6{leaseOf("fd98::1234", agent, "", start.Add(time.Hour))}
	if _, err := b.Import(t.Context(), lease, "", false); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("Import before our own leases are loaded: %v", err)
	}
	close(b.ready)
	b.file.full = true
	got, err := b.Import(t.Context(), lease, "", false)
	if fleet.CodeOf(err) != fleet.CodeLeasesUnsaved || got.Taken != 0 {
		t.Errorf("Import = %+v, %v; want an error, and nothing taken", got, err)
	}
	if all := b.Leases("", netip.Addr{}, 10); len(all) != 0 {
		t.Errorf("leases %+v, want none", all)
	}
}
