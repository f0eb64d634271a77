package dhcp6

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

func TestOneThatFloodsIsNotHeardAndTheOthersAre(t *testing.T) {
	b := newBench(t)
	straight := func(v voice) ([]byte, arrival) {
		return v.say(t, dhcpv6.MessageTypeSolicit, nil).ToBytes(), direct(v.from)
	}
	throughRelays := func(v voice) ([]byte, arrival) {
		return relayed(t, v.say(t, dhcpv6.MessageTypeSolicit, nil), v.from, "fd99::1"), fromRelay()
	}
	for name, path := range map[string]func(voice) ([]byte, arrival){"straight": straight, "through relays": throughRelays} {
		before, heard := b.Stats().Limited, 0
		raw, a := path(other)
		for range 1000 {
			if b.ask(t, raw, a) != nil {
				heard++
			}
		}
		if heard != gateBurst || b.Stats().Limited-before != 1000-gateBurst {
			t.Errorf("%s: %d of 1000 packets at once are heard and %d counted, want %d heard", name, heard, b.Stats().Limited-before, gateBurst)
		}
		if raw, a := path(agent); b.ask(t, raw, a) == nil {
			t.Errorf("%s: another one is not heard", name)
		}
		b.clock = b.clock.Add(gateEvery)
		if b.ask(t, raw, a) == nil {
			t.Errorf("%s: who was silent for long enough is not heard", name)
		}
	}
}

// Thirty thousand machines that somebody made up ask for addresses, within
// three seconds: the pool is small, what is kept of them is too, and a machine
// that is known gets its address at once.
func TestAFloodOfMadeUpMachinesLeavesKnownOnesServed(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::10ff") // 256
	b := newBench(t, n)
	b.nodes[theMAC] = fleet.Node{State: fleet.Ready}
	for i := range 30_000 {
		v := voice{duid: fmt.Sprintf("00030001%012x", 0x020000000000+i), iaid: uint32(i)}
		v.from = netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 2, 11: 0xff, 12: 0xfe, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		b.hear(t, v, v.say(t, dhcpv6.MessageTypeSolicit, nil))
		b.clock = b.clock.Add(100 * time.Microsecond)
	}
	asked := time.Now()
	b.boot(t, agent)
	if took := time.Since(asked); took > time.Second {
		t.Errorf("a known machine waited %s for its address", took)
	}
	if use := b.Subnets()[0]; use.Used > 129 {
		t.Errorf("%d of %d addresses are given away, want no more than half and one", use.Used, use.Size)
	}
	if s := b.Stats(); s.NoAddress < 29_000 || s.Limited > 100 {
		t.Errorf("counters %+v, want almost all refused an address", s)
	}
}
