package dhcp6

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rackstage/provision/fleet"
)

// Whatever is said to it ten thousand times, by as many machines or by one, the
// next machine has its address within a second, and what was refused is counted.
func TestHostilePacketsKeepNobodyWaiting(t *testing.T) {
	many := func(o dhcpv6.Option, times int) []dhcpv6.Option {
		all := make([]dhcpv6.Option, times)
		for i := range all {
			all[i] = o
		}
		return all
	}
	solicit := func(t *testing.T, v voice) []byte { return v.say(t, dhcpv6.MessageTypeSolicit, nil).ToBytes() }
	loop := func(t *testing.T, v voice) []byte {
		var d dhcpv6.DHCPv6 = v.say(t, dhcpv6.MessageTypeSolicit, nil)
		for range maxHops + 1 {
			var err error
			if d, err = dhcpv6.EncapsulateRelay(d, dhcpv6.MessageTypeRelayForward, netip.MustParseAddr("fd98::5").AsSlice(), v.from.AsSlice()); err != nil {
				t.Fatal(err)
			}
		}
		return d.ToBytes()
	}
	tests := map[string]struct {
		more  []dhcpv6.Option
		one   bool // machine says it all
		raw   func(*testing.T, voice) []byte
		count func(Stats) int64
	}{
		"relays in a loop":          {nil, false, loop, func(s Stats) int64 { return s.Malformed }},
		"options that do not end":   {nil, false, func(t *testing.T, v voice) []byte { return append(solicit(t, v), 0xff, 0xff, 0xff, 0xff) }, func(s Stats) int64 { return s.Malformed }},
		"300 wishes for addresses":  {many(&dhcpv6.OptIANA{}, 300), false, solicit, func(s Stats) int64 { return s.Malformed }},
		"300 options of no meaning": {many(&dhcpv6.OptionGeneric{OptionCode: 65001}, 300), true, solicit, func(s Stats) int64 { return s.Limited }},
		"a wish for 600 options":    {many(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionORO, OptionData: bytes.Repeat([]byte{0, 23}, 600)}, 1), true, solicit, func(s Stats) int64 { return s.Limited }},
		"a storm of requests": {nil, true, func(t *testing.T, v voice) []byte {
			return v.say(t, dhcpv6.MessageTypeRequest, []byte{0, 2, 0, 0}, netip.MustParseAddr("fd98::1000")).ToBytes()
		}, func(s Stats) int64 { return s.Limited }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.nodes[theMAC] = fleet.Node{State: fleet.Ready}
			raws, from := make([][]byte, 100), make([]netip.Addr, 100)
			for i := range raws {
				v := voice{duid: fmt.Sprintf("00030001%012x", 0x020000000000+i), iaid: 7, more: tt.more}
				v.from = netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i)})
				if tt.one {
					v.from = machine.Next()
				}
				raws[i], from[i] = tt.raw(t, v), v.from
			}
			for i := range 10_000 {
				b.handle(raws[i%len(raws)], direct(from[i%len(raws)]))
				if i%2000 != 1999 {
					continue
				}
				asked := time.Now()
				b.boot(t, agent)
				if took := time.Since(asked); took > time.Second {
					t.Errorf("a machine waited %s for its address", took)
				}
				b.clock = b.clock.Add(gateEvery)
			}
			if s := b.Stats(); tt.count(s) == 0 || s.Panics != 0 {
				t.Errorf("counters %+v, want what was refused in them", s)
			}
		})
	}
}

func TestAMachineThatHasNoLoaderIsAnAlarm(t *testing.T) {
	b := newBench(t)
	ia32 := voice{duid: uefi.duid, iaid: uefi.iaid, from: machine, more: pxeOptions("PXEClient:Arch:00006:UNDI:003000")}
	ia32.more[1] = dhcpv6.OptClientArchType(iana.EFI_IA32)
	b.hear(t, ia32, ia32.say(t, dhcpv6.MessageTypeSolicit, nil))
	if want := []string{fleet.CodeNoLoader + " IPv6, architecture 6"}; !slices.Equal(b.notes.raised, want) || !strings.Contains(b.notes.detail, "no loader for ") {
		t.Errorf("alarms %q, the last says %q; want %q", b.notes.raised, b.notes.detail, want)
	}
}
