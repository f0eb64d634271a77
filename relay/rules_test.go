package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/pcap"
	"github.com/rackstage/provision/internal/throttle"
)

var (
	serverAddr = netip.MustParseAddrPort("10.77.0.1:67")
	eth1       = port{name: "eth1", index: 3, addr: netip.MustParsePrefix("10.78.0.1/24")}
	macA       = [6]byte{0x52, 0x54, 0, 0, 0, 0x0a}
)

// testRules are those of a relay that machine A has just asked.
func testRules(chained bool) *rules {
	r := newRules("west", serverAddr, chained, time.Now, new(stats))
	r.asked.add(macA)
	return r
}

func isEth1(a netip.Addr) bool { return a == eth1.addr.Addr() }

func portAt(a netip.Addr) (port, bool) { return eth1, isEth1(a) }

// discover is a packet of a machine, changed.
func discover(change ...func(packet) packet) packet {
	p := request(macA, netip.MustParseAddr("10.78.0.50"), netip.Addr{}, 0x01020304)
	for _, f := range change {
		p = f(p)
	}
	return p
}

func with(code byte, value ...byte) func(packet) packet {
	return func(p packet) packet {
		end, _ := p.options(func(byte, int, int) bool { return true })
		out := append(bytes.Clone(p[:end]), code, byte(len(value)))
		return packet(append(append(out, value...), optionEnd)).padded()
	}
}

func set(at int, b ...byte) func(packet) packet {
	return func(p packet) packet { copy(p[at:], b); return p }
}

func TestWhatAMachineSendsIsPassedOnOnlyIfItIsOne(t *testing.T) {
	tests := map[string]struct {
		packet  packet
		chained bool
		want    bool
	}{
		"a machine's packet":                      {discover(), false, true},
		"option 82 without a relay":               {discover(with(82, 1, 1, 'x')), false, false},
		"option 82 without a relay, when chained": {discover(with(82, 1, 1, 'x')), true, false},
		"through another relay":                   {discover(set(atGIAddr, 10, 9, 9, 1)), false, false},
		"through another relay, when chained":     {discover(set(atGIAddr, 10, 9, 9, 1), with(82, 1, 1, 'x')), true, true},
		"our own, come back":                      {discover(set(atGIAddr, 10, 78, 0, 1)), true, false},
		"sixteen hops":                            {discover(set(atHops, 16)), true, false},
		"fifteen hops":                            {discover(set(atHops, 15)), true, true},
		"BOOTP without DHCP's cookie":             {discover(set(atCookie, 0, 0, 0, 0)), false, true},
		"BOOTP that ends with its fixed fields":   {discover()[:atCookie], false, true},
		"a group's address":                       {discover(set(atCHAddr, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), false, false},
		"no address":                              {discover(set(atCHAddr, 0, 0, 0, 0, 0, 0)), false, false},
		"token ring":                              {discover(set(atHType, 6)), false, false},
		"cut off":                                 {discover()[:200], false, false},
		"longer than a frame":                     {append(discover(), make([]byte, 1500)...), false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := testRules(tt.chained)
			if got := r.admit(tt.packet, isEth1); got != tt.want {
				t.Errorf("admit = %v, want %v", got, tt.want)
			}
			if refused := r.stats.refused() == 1; refused == tt.want {
				t.Errorf("refused = %v", refused)
			}
		})
	}
}

func TestAPacketGoesUpWithWhereItCameFrom(t *testing.T) {
	in := discover()
	out, ok := testRules(false).up(in, eth1)
	if !ok || out.giaddr() != eth1.addr.Addr() || out.hops() != 1 {
		t.Fatalf("up = %v, giaddr %v, hops %d", ok, out.giaddr(), out.hops())
	}
	info, _ := out.find(82)
	if want := "\x01\x04eth1\x02\x04west\x0b\x04\x0a\x4e\x00\x01"; string(info) != want {
		t.Errorf("option 82 = %q, want %q", info, want)
	}
	if in.giaddr().IsValid() || in.hops() != 0 {
		t.Error("the machine's packet was changed")
	}
	back, info, err := out.withoutInfo()
	if err != nil || string(info) != string(infoFor(eth1, "west")) {
		t.Fatalf("withoutInfo: %q, %v", info, err)
	}
	back[atHops] = 0
	back.setGIAddr(netip.IPv4Unspecified())
	if !bytes.Equal(back, in) {
		t.Errorf("the rest was changed:\n got %x\nwant %x", back, in)
	}
}

// TestBOOTPWithoutACookieGoesAsItIs passes what RFC 951 has instead of options:
// the vendor's own bytes, which look like nothing.
func TestBOOTPWithoutACookieGoesAsItIs(t *testing.T) {
	vendor := bytes.Repeat([]byte{82, 255, 3}, 20)
	in := discover(set(atCookie, vendor...))[:300]
	r := testRules(false)
	if !r.admit(in, isEth1) {
		t.Fatal("it was refused")
	}
	out, ok := r.up(in, eth1)
	if !ok || out.giaddr() != eth1.addr.Addr() || out.hops() != 1 || !bytes.Equal(out[atCookie:], in[atCookie:]) {
		t.Fatalf("up = %v, %x", ok, out)
	}
	out[atOp] = bootReply
	d, ok := r.down(out, serverAddr, portAt)
	if !ok || d.to != broadcast || !bytes.Equal(d.packet[atCookie:], in[atCookie:]) {
		t.Errorf("down = %v to %v, %x", ok, d.to, d.packet)
	}
	if got := r.stats.bootp.Load(); got != 1 {
		t.Errorf("%d packets counted as BOOTP, want 1", got)
	}
	for range 100 {
		r.admit(in, isEth1)
	}
	if got := r.stats.bootp.Load(); got != macBurst {
		t.Errorf("%d packets of one machine passed, want %d", got, macBurst)
	}
}

func TestWhatAnotherRelayFilledInStays(t *testing.T) {
	in := discover(set(atGIAddr, 10, 9, 9, 1), with(82, 1, 1, 'x'))
	out, ok := testRules(true).up(in, eth1)
	if !ok || out.giaddr().String() != "10.9.9.1" || out.hops() != 1 {
		t.Fatalf("up = %v, giaddr %v, hops %d", ok, out.giaddr(), out.hops())
	}
	if info, _ := out.find(82); string(info) != "\x01\x01x" {
		t.Errorf("option 82 = %q", info)
	}
}

func TestAPacketThatHasNoRoomGoesWithoutOption82(t *testing.T) {
	in := discover()
	for len(in) < mostPacket-8 {
		in = with(224, bytes.Repeat([]byte{1}, min(200, mostPacket-8-len(in)))...)(in)
	}
	out, ok := testRules(false).up(in, eth1)
	if !ok || out.hasInfo() || len(out) > mostPacket {
		t.Errorf("up = %v, option 82 %v, %d bytes", ok, out.hasInfo(), len(out))
	}
}

func reply(change ...func(packet) packet) packet {
	return discover(append([]func(packet) packet{
		set(atOp, bootReply), set(atGIAddr, 10, 78, 0, 1), set(atYIAddr, 10, 78, 0, 50), with(82, infoFor(eth1, "west")...),
	}, change...)...)
}

func TestRepliesGoDownOnlyFromTheServerAndToUs(t *testing.T) {
	tests := map[string]struct {
		packet packet
		from   string
		to     string // "" dropped
	}{
		"a reply":                        {reply(), "10.77.0.1:67", "255.255.255.255:68"},
		"to a client with an address":    {reply(set(atCIAddr, 10, 78, 0, 50), set(atFlags, 0, 0)), "10.77.0.1:67", "10.78.0.50:68"},
		"that one, but it wants all":     {reply(set(atCIAddr, 10, 78, 0, 50)), "10.77.0.1:67", "255.255.255.255:68"},
		"a NAK goes to all":              {reply(set(atCIAddr, 10, 78, 0, 50), set(atFlags, 0, 0), set(atOptions+2, typeNak)), "10.77.0.1:67", "255.255.255.255:68"},
		"the server left option 82 out":  {discover(set(atOp, bootReply), set(atGIAddr, 10, 78, 0, 1)), "10.77.0.1:67", "255.255.255.255:68"},
		"from somebody else":             {reply(), "10.77.0.9:67", ""},
		"from another port":              {reply(), "10.77.0.1:1067", ""},
		"for another relay":              {reply(set(atGIAddr, 10, 99, 0, 1)), "10.77.0.1:67", ""},
		"for nobody":                     {reply(set(atGIAddr, 0, 0, 0, 0)), "10.77.0.1:67", ""},
		"with another relay's option 82": {discover(set(atOp, bootReply), set(atGIAddr, 10, 78, 0, 1), with(82, 1, 1, 'x')), "10.77.0.1:67", ""},
		"a request":                      {reply(set(atOp, bootRequest)), "10.77.0.1:67", ""},
		"to a machine that did not ask":  {reply(set(atCHAddr, 0x52, 0x54, 0, 0, 0, 0x0b)), "10.77.0.1:67", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, ok := testRules(false).down(tt.packet, netip.MustParseAddrPort(tt.from), portAt)
			if ok != (tt.to != "") || ok && d.to.String() != tt.to {
				t.Fatalf("down = %v to %v, want %q", ok, d.to, tt.to)
			}
			if ok && d.packet.hasInfo() {
				t.Error("the machine gets to see option 82")
			}
		})
	}
}

// TestTwoRelaysThatAreEachOthersServerComeToAnEnd passes a packet to and fro.
func TestTwoRelaysThatAreEachOthersServerComeToAnEnd(t *testing.T) {
	other := port{name: "eth1", index: 3, addr: netip.MustParsePrefix("10.79.0.1/24")}
	p, passes := discover(), 0
	a, b := testRules(true), testRules(true)
	for turn := range 100 {
		r, at := a, eth1
		if turn%2 == 1 {
			r, at = b, other
		}
		ours := func(g netip.Addr) bool { return g == at.addr.Addr() }
		if !r.admit(p, ours) {
			break
		}
		var ok bool
		if p, ok = r.up(p, at); !ok {
			break
		}
		passes++
	}
	if passes != 2 {
		t.Errorf("it was passed on %d times, want 2: then it is known as its own", passes)
	}
}

func TestOneMachineCannotCostTheOthers(t *testing.T) {
	now := time.Unix(0, 0)
	st := new(stats)
	r := newRules("west", serverAddr, false, func() time.Time { return now }, st)
	passed := 0
	for range 10_000 {
		if r.admit(discover(), isEth1) {
			passed++
		}
	}
	if passed != macBurst || st.rate.Load() != 10_000-macBurst {
		t.Errorf("%d of 10,000 packets of one machine passed, want %d", passed, macBurst)
	}
	if !r.admit(discover(set(atCHAddr, 0x52, 0x54, 0, 0, 0, 0x0b)), isEth1) {
		t.Error("another machine was refused")
	}
	if now = now.Add(time.Second); !r.admit(discover(), isEth1) {
		t.Error("a second later the machine is still refused")
	}
	r.rates = throttle.New[[6]byte](100, macBurst, macRate, func() time.Time { return now })
	for i := range 100_000 { // strangers, each once
		p := discover()
		binary.BigEndian.PutUint32(p[atCHAddr+2:], uint32(i))
		r.admit(p, isEth1)
	}
	if now = now.Add(time.Minute); !r.admit(discover(), isEth1) {
		t.Error("a minute after the flood a machine is refused")
	}
}

// clientPackets returns what machines sent in a capture.
func clientPackets(tb testing.TB, name string) (packets []packet) {
	tb.Helper()
	for _, p := range sentTo(tb, name, dhcpPort) {
		packets = append(packets, p.Data)
	}
	return packets
}

// sentTo returns what came by UDP to a port in a capture.
func sentTo(tb testing.TB, name string, port uint16) []pcap.Packet {
	tb.Helper()
	all, err := pcap.Packets(name)
	if err != nil {
		tb.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p pcap.Packet) bool { return p.TCP || p.To.Port() != port })
}

func captures(tb testing.TB) []string {
	tb.Helper()
	return capturesIn(tb, "../dhcp/testdata", 8)
}

func capturesIn(tb testing.TB, dir string, least int) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	if err != nil || len(names) < least {
		tb.Fatalf("captures: %q, %v", names, err)
	}
	return names
}

// TestRealFirmwareIsRelayedWithoutLoss passes every packet of the captures up
// and down again.
func TestRealFirmwareIsRelayedWithoutLoss(t *testing.T) {
	count := 0
	for _, name := range captures(t) {
		r := testRules(false)
		for _, p := range clientPackets(t, name) {
			count++
			if !r.admit(p, isEth1) {
				t.Errorf("%s: packet %x was refused", filepath.Base(name), p)
				continue
			}
			up, ok := r.up(p, eth1)
			if !ok || !up.hasInfo() {
				t.Errorf("%s: packet %x was not relayed", filepath.Base(name), p)
				continue
			}
			up[atOp] = bootReply
			d, ok := r.down(up, serverAddr, portAt)
			if !ok || d.packet.kind() != p.kind() || d.packet.hasInfo() {
				t.Errorf("%s: it does not come back", filepath.Base(name))
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d packets in the captures", count)
	}
}

// Whatever a machine or a server sends, what leaves us is whole: it can be
// read, fits into a frame, and has option 82 on the server's side only.
func FuzzWhateverComesWhatLeavesIsWhole(f *testing.F) {
	for _, name := range captures(f) {
		for _, p := range clientPackets(f, name) {
			f.Add([]byte(p), false)
		}
	}
	f.Add([]byte(reply()), true)
	f.Add([]byte(discover(with(82, 1, 1, 'x'), set(atGIAddr, 10, 9, 9, 1))), true)
	f.Fuzz(func(t *testing.T, raw []byte, chained bool) {
		r := testRules(chained)
		before := bytes.Clone(raw)
		if r.admit(raw, isEth1) {
			if out, ok := r.up(raw, eth1); ok {
				if _, err := out.options(func(byte, int, int) bool { return true }); err != nil && !packet(raw).giaddr().IsValid() || len(out) > mostPacket {
					t.Errorf("up: %v, %d bytes", err, len(out))
				}
				if !out.giaddr().IsValid() || out.hops() != packet(raw).hops()+1 || out.mac() != packet(raw).mac() || out.xid() != packet(raw).xid() {
					t.Errorf("up: giaddr %v, hops %d, or another client", out.giaddr(), out.hops())
				}
			}
		}
		if d, ok := r.down(raw, serverAddr, portAt); ok {
			if _, err := d.packet.options(func(byte, int, int) bool { return true }); err != nil || d.packet.hasInfo() || d.packet.op() != bootReply {
				t.Errorf("down: %v, option 82 %v", err, d.packet.hasInfo())
			}
		}
		if !bytes.Equal(raw, before) {
			t.Error("what came was changed")
		}
	})
}

// Whatever a packet does to a relay, the next one is carried.
func TestAPacketThatMakesARelayFailCostsOnlyItself(t *testing.T) {
	r := &Relay{o: Options{Log: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(t.Context())
	left, passed := 3, 0
	read := func(b []byte) (message, error) {
		if left--; left == 0 {
			cancel()
		}
		return message{packet: b[:1]}, nil
	}
	err := carryDHCP(ctx, read, r.safely(func(message) {
		if passed++; passed == 1 {
			panic("a bug")
		}
	}))
	if err != nil || passed != 2 || r.stats.panics.Load() != 1 {
		t.Errorf("passed %d, %d panics, %v", passed, r.stats.panics.Load(), err)
	}
}
