package dhcp6

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

// tenAddresses is a subnet of which strangers may have five addresses.
func tenAddresses() fleet.Subnet {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::1009")
	return n
}

// nodeNo is the i-th machine that somebody approved.
func (b *bench) nodeNo(i int) voice {
	v := strangerNo(1000 + i)
	b.nodes[macOfLinkLocal(v.from)] = fleet.Node{State: fleet.Ready}
	return v
}

// come lets strangers ask for addresses, and returns how many got one.
func (b *bench) come(tb testing.TB, first, count int) (given int) {
	tb.Helper()
	for i := first; i < first+count; i++ {
		v := strangerNo(i)
		for _, m := range []*dhcpv6.Message{v.say(tb, dhcpv6.MessageTypeSolicit, nil), v.say(tb, dhcpv6.MessageTypeRequest, b.id)} {
			if addressIn(b.hear(tb, v, m)).IsValid() && m.MessageType == dhcpv6.MessageTypeRequest {
				given++
			}
		}
	}
	return given
}

func TestStrangersTakeNothingFromNodes(t *testing.T) {
	n := tenAddresses()
	served := []fleet.Subnet{n, remote6()}
	later := func(b *bench) { b.clock = b.clock.Add(6 * time.Minute) }
	tests := map[string]struct {
		then func(*bench) // after five strangers have leases
		want int          // of the next ten
	}{
		"at once":                             {func(*bench) {}, 0},
		"after their leases ended":            {later, 5},
		"after other subnets came":            {func(b *bench) { b.SetSubnets(served) }, 0},
		"after an address of ours came":       {func(b *bench) { b.book.reconfigure(b.links.Owned()) }, 0},
		"after the subnet went and came back": {func(b *bench) { b.SetSubnets(served[1:]); b.SetSubnets(served) }, 0},
		"after a restart":                     {func(b *bench) { b.restart(t) }, 0},
		"after a restart, later":              {func(b *bench) { b.restart(t); later(b) }, 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, served...)
			if got := b.come(t, 0, 20); got != 5 {
				t.Fatalf("%d of 20 strangers got an address, want 5", got)
			}
			tt.then(b)
			if got := b.come(t, 20, 10); got != tt.want {
				t.Errorf("%d of the next ten got an address, want %d", got, tt.want)
			}
			b.come(t, 0, 20) // the first ones once more
			if u := b.Subnets()[0]; u.Strangers > 5 {
				t.Errorf("use %+v, want five strangers at most", u)
			}
			for i := range 5 {
				b.boot(t, b.nodeNo(i))
			}
		})
	}
}

// It had an address, and asks for it by name, or renews it when it is over.
func TestAStrangerHasNoClaimToTheAddressThatItHad(t *testing.T) {
	b := newBench(t, tenAddresses())
	var had []netip.Addr
	for i := range 5 {
		had = append(had, b.boot(t, strangerNo(i)))
	}
	b.clock = b.clock.Add(6 * time.Minute)
	if got := b.come(t, 5, 9); got != 5 {
		t.Fatalf("%d of nine strangers got an address, want 5", got)
	}
	for i, addr := range had {
		back := strangerNo(i)
		for _, m := range []*dhcpv6.Message{
			back.say(t, dhcpv6.MessageTypeSolicit, nil, addr), back.say(t, dhcpv6.MessageTypeRequest, b.id, addr),
			back.say(t, dhcpv6.MessageTypeRenew, b.id, addr), back.say(t, dhcpv6.MessageTypeRebind, nil, addr),
		} {
			if got := addressIn(b.hear(t, back, m)); got.IsValid() {
				t.Errorf("after %s it has %s, and five strangers have addresses", m.MessageType, got)
			}
		}
	}
	back := strangerNo(0)
	b.nodes[macOfLinkLocal(back.from)] = fleet.Node{State: fleet.Ready}
	b.boot(t, back)
}

func TestAStrangerThatIsApprovedCountsNoLonger(t *testing.T) {
	b := newBench(t, tenAddresses())
	b.come(t, 0, 5)
	approved := strangerNo(0)
	b.nodes[macOfLinkLocal(approved.from)] = fleet.Node{State: fleet.Ready}
	b.boot(t, approved)
	b.clock = b.clock.Add(countEvery)
	if got := b.come(t, 5, 3); got != 1 {
		t.Errorf("%d strangers got an address, want the one that it made room for", got)
	}
	b.restart(t)
	if got := b.come(t, 8, 3); got != 0 {
		t.Errorf("%d strangers more got an address after a restart, want none", got)
	}
	if u := b.Subnets()[0]; u.Strangers != 5 || u.Used != 6 {
		t.Errorf("use %+v, want five strangers of six", u)
	}
}

// Each asks, takes what it gets, and is never seen again.
func TestAHundredThousandMACsTakeNothingFromNodes(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::10c7") // 200
	b := newBench(t, n)
	given := 0
	for i := range 100_000 {
		v := voice{duid: fmt.Sprintf("00030001%012x", 0x020000000000+i), iaid: uint32(i)}
		v.from = netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 0, 11: 0xff, 12: 0xfe, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		if addressIn(b.hear(t, v, v.say(t, dhcpv6.MessageTypeRequest, b.id))).IsValid() {
			given++
		}
	}
	if s := b.Stats(); given != 100 || s.NoAddress != 100_000-100 {
		t.Errorf("%d got an address, counters %+v; want leases for 100", given, s)
	}
	for i := range 100 {
		b.boot(t, b.nodeNo(i))
	}
	late := b.nodeNo(100)
	if got := addressIn(b.hear(t, late, late.say(t, dhcpv6.MessageTypeSolicit, nil))); got.IsValid() {
		t.Errorf("offered %s, and there were no more addresses", got)
	}
	b.clock = b.clock.Add(5*time.Minute + time.Second)
	b.boot(t, late)
	if got := b.come(t, 500, 200); got != 99 {
		t.Errorf("%d strangers got an address, want the 99 that are left", got)
	}
}
