package relay

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

var (
	serverAddr6 = netip.MustParseAddrPort("[fd77::1]:547")
	link6       = netip.MustParseAddr("fd78::1")
	port6       = port{name: "eth1", index: 3, six: []netip.Prefix{netip.MustParsePrefix("fd78::1/64")}}
	machine6    = netip.MustParseAddr("fe80::5054:ff:fe00:a")
	solicit     = packet6{1, 7, 8, 9, 0, 1, 0, 2, 0xaa, 0xbb}
)

// testRules6 are those of a relay that the machine has just asked.
func testRules6(chained bool) *rules6 {
	r := newRules6(serverAddr6, chained, time.Now, new(stats))
	r.asked.add(machine6)
	r.asked.add(netip.MustParseAddr("fd78::50"))
	return r
}

// passUp is what goes to the server of a packet, if anything does.
func (r *rules6) passUp(p packet6, from netip.Addr) (packet6, bool) {
	if !r.admit(p, from, port6, isLink6) {
		return nil, false
	}
	return r.up(p, from, port6, link6), true
}

func isLink6(a netip.Addr) bool { return a == link6 }

func portAt6(a netip.Addr) (port, bool) { return port6, isLink6(a) }

// forwarded is what another relay would have made of a machine's packet.
func forwarded(hops byte) packet6 {
	return wrap(solicit, netip.IPv6Unspecified(), machine6, hops, "sw1")
}

// answered is a server's answer in the envelope of what was passed up.
func answered(up packet6, change ...func(packet6)) packet6 {
	out := packet6(bytes.Clone(up))
	out[0] = typeAnswer6
	reply := packet6(bytes.Clone(solicit))
	reply[0] = typeReply6
	copy(out[len(out)-len(solicit):], reply)
	for _, f := range change {
		f(out)
	}
	return out
}

func put6(at int, b ...byte) func(packet6) { return func(p packet6) { copy(p[at:], b) } }

func TestWhatIsPassedUpOfDHCPv6(t *testing.T) {
	tests := map[string]struct {
		packet  packet6
		from    netip.Addr
		chained bool
		want    bool
		hops    byte
	}{
		"a machine's packet":                  {solicit, machine6, false, true, 0},
		"from an address that it has":         {solicit, netip.MustParseAddr("fd78::50"), false, true, 0},
		"an ADVERTISE":                        {packet6{typeAdvertise6, 1, 2, 3}, machine6, false, false, 0},
		"a REPLY":                             {packet6{typeReply6, 1, 2, 3}, machine6, false, false, 0},
		"through another relay":               {forwarded(0), machine6, false, false, 0},
		"through another relay, when chained": {forwarded(0), machine6, true, true, 1},
		"the last hop":                        {forwarded(7), machine6, true, true, 8},
		"a loop":                              {forwarded(8), machine6, true, false, 0},
		"our own, come back":                  {forwarded(1), link6, true, false, 0},
		"an envelope that is cut off":         {forwarded(0)[:20], machine6, true, false, 0},
		"nothing":                             {nil, machine6, false, false, 0},
		"three bytes":                         {solicit[:3], machine6, false, false, 0},
		"longer than a frame":                 {make(packet6, mostPacket), machine6, false, false, 0},
		"from nobody":                         {solicit, netip.IPv6Unspecified(), false, false, 0},
		"from a group":                        {solicit, netip.MustParseAddr("ff02::1"), false, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := testRules6(tt.chained)
			out, ok := r.passUp(tt.packet, tt.from)
			if ok != tt.want || r.stats.refused() == 1 == tt.want {
				t.Fatalf("up = %v, %d refused, want %v", ok, r.stats.refused(), tt.want)
			}
			if !ok {
				return
			}
			if out.kind() != typeForward6 || out.hops() != tt.hops || out.addr(atLink6) != link6 || out.addr(atPeer6) != tt.from {
				t.Errorf("the envelope is %x", out[:atOptions6])
			}
			e, whole := unwrap(append(packet6{typeAnswer6}, out[1:]...))
			if !whole || string(e.iface) != "eth1" || !bytes.Equal(e.message, tt.packet) {
				t.Errorf("in it are %q and %x", e.iface, e.message)
			}
		})
	}
}

func TestDHCPv6AnswersGoDownOnlyFromTheServerAndToMachinesOfOurs(t *testing.T) {
	up := wrap(solicit, link6, machine6, 0, "eth1")
	held := wrap(solicit, link6, netip.MustParseAddr("fd78::50"), 0, "eth1")
	behind := answered(wrap(forwarded(0), link6, machine6, 1, "eth1"), func(p packet6) { p[atOptions6+4+4+4] = typeAnswer6 })
	far := netip.MustParseAddr("fd99::50").As16()
	twice := append(bytes.Clone(answered(up)), 0, optionMessage6, 0, 4, typeReply6, 1, 2, 3)
	tests := map[string]struct {
		packet  packet6
		from    string
		chained bool
		to      string // "" dropped
	}{
		"an answer":                      {answered(up), "[fd77::1]:547", false, "[fe80::5054:ff:fe00:a]:546"},
		"to an address of our network":   {answered(held), "[fd77::1]:547", false, "[fd78::50]:546"},
		"to a relay behind us":           {behind, "[fd77::1]:547", true, "[fe80::5054:ff:fe00:a]:547"},
		"that one, when not chained":     {behind, "[fd77::1]:547", false, ""},
		"from somebody else":             {answered(up), "[fd77::9]:547", false, ""},
		"from another port":              {answered(up), "[fd77::1]:546", false, ""},
		"for another link":               {answered(up, put6(atLink6, 0xfd, 0x99)), "[fd77::1]:547", false, ""},
		"for another interface":          {answered(up, put6(atOptions6+4, 'e', 't', 'h', '9')), "[fd77::1]:547", false, ""},
		"for a machine elsewhere":        {answered(up, put6(atPeer6, far[:]...)), "[fd77::1]:547", false, ""},
		"for a machine that did not ask": {answered(wrap(solicit, link6, netip.MustParseAddr("fe80::b"), 0, "eth1")), "[fd77::1]:547", false, ""},
		"for all machines":               {answered(up, put6(atPeer6, 0xff, 2)), "[fd77::1]:547", false, ""},
		"for ourselves":                  {answered(wrap(solicit, link6, link6, 0, "eth1")), "[fd77::1]:547", false, ""},
		"a machine's message in it":      {answered(up, func(p packet6) { p[len(p)-len(solicit)] = 1 }), "[fd77::1]:547", false, ""},
		"two messages in it":             {twice, "[fd77::1]:547", false, ""},
		"nothing in it":                  {answered(up)[:atOptions6+8], "[fd77::1]:547", false, ""},
		"cut off":                        {answered(up)[:len(answered(up))-1], "[fd77::1]:547", false, ""},
		"a request from the other side":  {up, "[fd77::1]:547", false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := testRules6(tt.chained)
			d, ok := r.down(tt.packet, netip.MustParseAddrPort(tt.from), portAt6)
			if ok != (tt.to != "") || ok && d.to.String() != tt.to {
				t.Fatalf("down = %v to %v, want %q", ok, d.to, tt.to)
			}
			if !ok && r.stats.stranger.Load()+r.stats.malformed.Load() != 1 {
				t.Error("it was dropped and not counted")
			}
		})
	}
}

func TestOneMachineCannotCostTheOthersTheirDHCPv6(t *testing.T) {
	r := testRules6(false)
	passed := 0
	for range 10_000 {
		if _, ok := r.passUp(solicit, machine6); ok {
			passed++
		}
	}
	if passed > macBurst+macRate || r.stats.rate.Load() != int64(10_000-passed) {
		t.Errorf("%d of 10,000 packets of one machine passed, want %d", passed, macBurst)
	}
	if _, ok := r.passUp(solicit, netip.MustParseAddr("fe80::b")); !ok {
		t.Error("another machine was refused")
	}
}

// clientPackets6 returns what machines sent in a capture, with who sent it.
func clientPackets6(tb testing.TB, name string) (packets []packet6, from []netip.Addr) {
	tb.Helper()
	for _, p := range sentTo(tb, name, serverPort6) {
		packets, from = append(packets, p.Data), append(from, p.From.Addr())
	}
	return packets, from
}

func captures6(tb testing.TB) []string {
	tb.Helper()
	return capturesIn(tb, "../dhcp/dhcp6/testdata", 2)
}

func TestRealFirmwareOfIPv6IsRelayedWithoutLoss(t *testing.T) {
	count := 0
	for _, name := range captures6(t) {
		packets, from := clientPackets6(t, name)
		for i, p := range packets {
			count++
			r := testRules6(false)
			up, ok := r.passUp(p, from[i])
			if !ok {
				t.Errorf("%s: packet %x was refused", filepath.Base(name), p)
				continue
			}
			back := append(packet6{typeAnswer6}, up[1:]...)
			back[len(back)-len(p)] = typeReply6
			if d, ok := r.down(back, serverAddr6, portAt6); from[i].IsLinkLocalUnicast() && (!ok || d.to.Addr() != from[i] || !bytes.Equal(d.packet[1:], p[1:])) {
				t.Errorf("%s: it does not come back: %v, %v", filepath.Base(name), ok, d.to)
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d packets in the captures", count)
	}
}

// Whatever a machine or a server sends: what goes up is in one whole envelope
// of ours, and what goes down goes to one machine near us.
func FuzzWhateverComesOfDHCPv6WhatLeavesIsWhole(f *testing.F) {
	for _, name := range captures6(f) {
		packets, _ := clientPackets6(f, name)
		for _, p := range packets {
			f.Add([]byte(p), false)
			f.Add([]byte(answered(wrap(p, link6, machine6, 0, "eth1"))), false)
		}
	}
	f.Add([]byte(forwarded(3)), true)
	f.Fuzz(func(t *testing.T, raw []byte, chained bool) {
		r, before := testRules6(chained), bytes.Clone(raw)
		if up, ok := r.passUp(raw, machine6); ok {
			e, whole := unwrap(append(packet6{typeAnswer6}, up[1:]...))
			if !whole || !bytes.Equal(e.message, raw) || e.peer != machine6 || e.link != link6 || up.hops() > mostHops6 || len(up) > mostPacket {
				t.Errorf("up: %x", up)
			}
		}
		if d, ok := r.down(raw, serverAddr6, portAt6); ok && (!d.port.near(d.to.Addr()) || len(d.packet) == 0) {
			t.Errorf("down: %x to %v", d.packet, d.to)
		}
		if !bytes.Equal(raw, before) {
			t.Error("what came was changed")
		}
	})
}
