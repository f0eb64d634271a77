package dhcp

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// A million of them is 64 MB, and what two maps take.
func TestAPlaceIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(place{}); n > 64 {
		t.Errorf("a place has %d bytes, want 64", n)
	}
}

func TestAPlaceKeepsAllOfALease(t *testing.T) {
	base := fleet.Lease{
		Addr: netip.MustParseAddr("10.77.0.100"), Subnet: "rack", MAC: macA, State: fleet.LeaseBound,
		Expires: time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC),
	}
	with := func(change func(*fleet.Lease)) fleet.Lease {
		l := base
		change(&l)
		return l
	}
	tests := map[string]fleet.Lease{
		"without names":                  base,
		"with a hostname":                with(func(l *fleet.Lease) { l.Hostname = "prd-01" }),
		"with its MAC as identifier":     with(func(l *fleet.Lease) { l.ClientID = "0152540000000a" }),
		"with another's MAC":             with(func(l *fleet.Lease) { l.ClientID = "0152540000000b" }),
		"with an identifier of its own":  with(func(l *fleet.Lease) { l.ClientID = "ff00112233"; l.Hostname = "x" }),
		"released":                       with(func(l *fleet.Lease) { l.State = fleet.LeaseReleased }),
		"declined":                       with(func(l *fleet.Lease) { l.State = fleet.LeaseDeclined }),
		"in quarantine, nobody's at all": with(func(l *fleet.Lease) { l.State, l.MAC = fleet.LeaseDeclined, "" }),
	}
	l := newLedger(newNetwork(rackSubnet(fleet.Full)), nil, newClock(time.Now), make(map[uint32]hwaddr))
	for name, want := range tests {
		p := l.put(&want, false)
		if diff := cmp.Diff(want, l.lease(p), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(l.names) > 1 || len(l.byID) > 1 || l.byAddr.count != 1 {
		t.Errorf("after all of them %d names, %d identifiers and %d places stay", len(l.names), len(l.byID), l.byAddr.count)
	}
}

// wideSubnet has room for a million machines.
func wideSubnet() fleet.Subnet {
	n := rackSubnet(fleet.Full)
	n.CIDR = netip.MustParsePrefix("10.0.0.0/8")
	n.Ranges[0] = fleet.AddrRange{First: netip.MustParseAddr("10.1.0.0"), Last: netip.MustParseAddr("10.99.255.255")}
	return n
}

func BenchmarkLoadAMillionLeases(b *testing.B) {
	all := make([]fleet.Lease, 1_000_000)
	for i := range all {
		h := uint32(i) * 2654435761 //nolint:gosec // scattered, as MACs are
		all[i] = fleet.Lease{
			Addr: netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}), Subnet: "rack",
			MAC: macOf(hwaddr{0x52, 0x54, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}), State: fleet.LeaseBound,
			Expires: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC),
		}
	}
	for b.Loop() {
		ts := newTestServer(b, wideSubnet())
		for _, l := range all {
			ts.book.load(l, !ts.isKnown(l.MAC))
		}
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "leases/s")
	}
}
