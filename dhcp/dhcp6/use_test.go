package dhcp6

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

// strangerNo is a machine that nobody has approved.
func strangerNo(i int) voice {
	v := other
	v.from = netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 0x50, 9: 0x54, 11: 0xff, 12: 0xfe, 14: byte(i >> 8), 15: byte(i + 1)})
	v.duid, v.iaid = fmt.Sprintf("0003000152540000%04x", i+1), uint32(i+100) //nolint:gosec // small
	return v
}

func TestAnAlarmComesBeforeTheAddressesRunOut(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::10c7") // 200
	n.UnknownShare, n.Lease, n.UnknownLease = 100, 7200, 7200
	b := newBench(t, n)
	low := fleet.CodePoolForecast + " subnet rack6"
	given := 0
	give := func(count int) {
		for range count {
			b.boot(t, strangerNo(given))
			given++
		}
	}
	give(99)
	for range 60 { // an hour in which sixty come
		b.takeStock(true)
		b.clock = b.clock.Add(time.Minute)
		give(1)
	}
	b.clock = b.clock.Add(countEvery)
	if b.takeStock(false); len(b.notes.raised) != 0 {
		t.Fatalf("159 of 200 are leased, which was enough for %q", b.notes.raised)
	}
	b.SetSubnets([]fleet.Subnet{n}) // as each change of site.yaml does
	give(6)
	b.clock = b.clock.Add(countEvery)
	b.takeStock(false)
	if !slices.Contains(b.notes.raised, low) || !strings.Contains(b.notes.detail, "165 of 200") || !strings.Contains(b.notes.detail, "full in 31 minutes") {
		t.Errorf("alarms %q (%s), want one that they last half an hour", b.notes.raised, b.notes.detail)
	}
	if u := b.Subnets()[0]; u.Used != 165 || u.Growth != 66 || !u.FullForecast || u.Percent() != 82 {
		t.Errorf("use %+v", u)
	}
	b.clock = b.clock.Add(3 * time.Hour)
	if b.takeStock(false); len(b.notes.raised) != 0 {
		t.Errorf("alarms %q, and nothing is leased", b.notes.raised)
	}
}

func TestStrangersAtTheirShareAreAnAlarm(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::1009") // ten
	b := newBench(t, n)
	for i := range 6 {
		b.hear(t, strangerNo(i), strangerNo(i).say(t, dhcpv6.MessageTypeSolicit, nil))
	}
	if want := []string{fleet.CodeUnknownShare + " subnet rack6"}; !slices.Equal(b.notes.raised, want) {
		t.Errorf("alarms %q, want %q", b.notes.raised, want)
	}
	if want := "no address for 52:54:00:00:00:06"; b.notes.detail != want {
		t.Errorf("alarm %q, want %q", b.notes.detail, want)
	}
}

// What is reserved, excluded or our own is not there to be given.
func TestOnlyWhatEverybodyCanHaveIsCounted(t *testing.T) {
	n := rack6()
	n.Ranges = []fleet.AddrRange{{First: netip.MustParseAddr("fd98::"), Last: netip.MustParseAddr("fd98::f")}}
	n.Exclude = []fleet.AddrRange{{First: netip.MustParseAddr("fd98::8"), Last: netip.MustParseAddr("fd98::b")}}
	n.Reservations = []fleet.Reservation{{MAC: theMAC, Addr: netip.MustParseAddr("fd98::2")}}
	b := newBench(t, n)
	b.boot(t, agent)
	b.boot(t, strangerNo(1))
	b.clock = b.clock.Add(countEvery)
	// Of sixteen four are excluded, one is reserved, one ours, one all routers'.
	if u := b.Subnets()[0]; u.Size != 9 || u.Used != 1 {
		t.Errorf("use %+v, want 1 of 9", u)
	}
}

// A thousand excluded addresses in a row are no full pool.
func TestAnAddressBesideManyExcludedOnesIsFound(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::ffff")
	n.Exclude = []fleet.AddrRange{{First: netip.MustParseAddr("fd98::1000"), Last: netip.MustParseAddr("fd98::fffc")}}
	n.UnknownShare = 100
	b := newBench(t, n)
	for i := range 3 {
		if addr := b.boot(t, strangerNo(i)); addr.Less(netip.MustParseAddr("fd98::fffd")) {
			t.Errorf("machine %d got %s", i, addr)
		}
	}
}
