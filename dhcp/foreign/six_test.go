package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/rackstage/provision/fleet"
)

var (
	rack6Net = Network{
		Index: 3, Name: "eno3", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Local: netip.MustParseAddr("fe80::1"),
		Addrs: []netip.Prefix{netip.MustParsePrefix("fd77::1/64")},
	}
	otherMAC  = net.HardwareAddr{0x52, 0x54, 0, 0x9a, 0x11, 7}
	otherAddr = netip.MustParseAddr("fe80::5054:ff:fe9a:1107")
	client6   = net.HardwareAddr{2, 0, 0, 0, 0, 5}
)

// said6 is a message of another server to the imaginary client.
func said6(kind byte, options ...byte) []byte {
	n := Network{MAC: otherMAC, Local: otherAddr}
	b := []byte{server6Port >> 8, server6Port & 0xff, client6Port >> 8, client6Port & 0xff, 0, 0, 0, 0, kind, 1, 2, 3}
	b = append(b, option6(optClientID, append([]byte{0, 3, 0, 1}, client6...)...)...)
	b = append(append(b, option6(optServerID, 0, 3, 0, 1, 0x52, 0x54, 0, 0x9a, 0x11, 7)...), options...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return frame6(n, allNodes, udp, b)
}

func option6(code byte, value ...byte) []byte {
	return append([]byte{0, code, byte(len(value) >> 8), byte(len(value))}, value...)
}

// address6 is an association with an address, which is valid for so many seconds.
func address6(valid byte) []byte {
	a := append(netip.MustParseAddr("fd77::77").AsSlice(), 0, 0, 0, 0, 0, 0, 0, valid)
	return option6(optIANA, append(make([]byte, 12), option6(optIAAddr, a...)...)...)
}

// advertised is what another router says, with these flags and prefixes.
func advertised(flags byte, lifetime uint16, prefixes ...[]byte) []byte {
	b := []byte{icmpAdvertise, 0, 0, 0, 64, flags, byte(lifetime >> 8), byte(lifetime), 0, 0, 0, 0, 0, 0, 0, 0}
	for _, p := range prefixes {
		b = append(b, p...)
	}
	return frame6(Network{MAC: otherMAC, Local: otherAddr}, allNodes, icmp6, b)
}

func prefix6(text string, flags byte) []byte {
	p := netip.MustParsePrefix(text)
	b := []byte{ndPrefix, 4, byte(p.Bits()), flags, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}
	return append(b, p.Addr().AsSlice()...)
}

func TestWhatIsSaidByIPv6(t *testing.T) {
	duid := "000300015254009a1107"
	url := option6(optBootURL, []byte("tftp://[fd77::2]/evil\x1b[2J.efi")...)
	advert := func(a Advert) sighting { return sighting{Server: otherAddr, Router: true, Advert: a} }
	tests := map[string]struct {
		frame       []byte
		want        sighting
		full, proxy bool
	}{
		"an offer": {said6(advertise6, address6(60)...), sighting{DUID: duid, Addr: netip.MustParseAddr("fd77::77"), Bits: 128}, true, false},
		"an offer with something to boot": {
			said6(advertise6, append(address6(60), url...)...),
			sighting{DUID: duid, Addr: netip.MustParseAddr("fd77::77"), Bits: 128, File: "tftp://[fd77::2]/evil[2J.efi"},
			true, false,
		},
		"something to boot alone":    {said6(reply6, url...), sighting{DUID: duid, File: "tftp://[fd77::2]/evil[2J.efi"}, false, true},
		"options alone":              {said6(reply6), sighting{DUID: duid}, false, false},
		"an address that is over":    {said6(reply6, address6(0)...), sighting{DUID: duid}, false, false},
		"an association that is cut": {said6(reply6, option6(optIANA, 1, 2, 3)...), sighting{DUID: duid}, false, false},
		"a router": {
			advertised(0xc0, 1800, prefix6("fd77::/64", 0x80), prefix6("fd78::1/64", 0xc0)),
			advert(Advert{Managed: true, Other: true, Lifetime: 30 * time.Minute, Prefixes: []Prefix{{netip.MustParsePrefix("fd77::/64"), false}, {netip.MustParsePrefix("fd78::/64"), true}}}), false, false,
		},
		"a router that is no default":   {advertised(0x40, 0), advert(Advert{Other: true}), false, false},
		"a prefix of one link":          {advertised(0, 0, prefix6("fe80::/64", 0xc0)), advert(Advert{}), false, false},
		"a prefix that is over":         {advertised(0, 0, append(append(prefix6("fd77::/64", 0xc0)[:4:4], 0, 0, 0, 0), prefix6("fd77::/64", 0xc0)[8:]...)), advert(Advert{}), false, false},
		"more prefixes than a link has": {advertised(0, 0, slices.Repeat([][]byte{prefix6("fd77::/64", 0)}, 30)...), advert(Advert{Prefixes: slices.Repeat([]Prefix{{netip.MustParsePrefix("fd77::/64"), false}}, maxPrefixes)}), false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.want.MAC, tt.want.From, tt.want.Server = otherMAC, otherAddr, otherAddr
			if !tt.want.Router {
				tt.want.Client = client6
			}
			got, err := parseReply6(tt.frame)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("parseReply6 = %+v, %v; want %+v", got, err, tt.want)
			}
			if got.full() != tt.full || got.proxy() != tt.proxy {
				t.Errorf("gives addresses: %t, boot information alone: %t", got.full(), got.proxy())
			}
			if !passes6(t, tt.frame) {
				t.Error("the kernel's filter keeps it back")
			}
		})
	}
}

func passes6(tb testing.TB, frame []byte) bool {
	tb.Helper()
	vm, err := bpf.NewVM(replyFilter6)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		tb.Fatal(err)
	}
	return n > 0
}

func TestWhatIsNoReplyOfIPv6(t *testing.T) {
	change := func(frame []byte, at int, v byte) []byte { frame[etherLen+at] = v; return frame }
	tests := map[string][]byte{
		"without a server's identifier": said6(reply6)[:etherLen+ip6Len+udpLen+4+14],
		"an option longer than it is":   said6(reply6, 0, optBootURL, 0, 9),
		"a request":                     said6(solicit6),
		"from a relay's port":           change(said6(reply6), ip6Len+1, 0),
		"an advertisement from afar":    change(advertised(0, 0), 7, 254),
		"one of a global address":       change(advertised(0, 0), 8, 0x20),
		"an option of no length":        advertised(0, 0, []byte{ndPrefix, 0, 0, 0, 0, 0, 0, 0}),
		"a short frame":                 advertised(0, 0)[:etherLen+ip6Len+3],
		"another protocol":              change(said6(reply6), 6, 6),
	}
	for name, frame := range tests {
		if got, err := parseReply6(frame); err == nil {
			t.Errorf("%s: parseReply6 = %+v, want an error", name, got)
		}
	}
}

func TestTheIPv6FilterPicksRepliesOutOfRealBoots(t *testing.T) {
	names, err := filepath.Glob("../dhcp6/testdata/*.pcap")
	if err != nil || len(names) < 2 {
		t.Fatalf("captures: %q, %v", names, err)
	}
	servers, routers := 0, 0
	for _, name := range names {
		for _, f := range frames(t, name) {
			s, err := parseReply6(f)
			if passes6(t, f) != (err == nil) {
				t.Errorf("%s: filter and parser disagree about %x: %v", name, f, err)
			}
			switch {
			case err != nil:
			case s.Router:
				routers++
			default:
				servers++
			}
		}
	}
	if servers < 4 || routers < 1 {
		t.Errorf("%d replies of servers and %d of routers, want those of two boots", servers, routers)
	}
}

func TestProbesOfIPv6AskAsFirmwareDoes(t *testing.T) {
	client := imaginaryClient()
	got := probes6(rack6Net, client)
	if len(got) != 3 {
		t.Fatalf("%d probes, want one for addresses, one for options, one for routers", len(got))
	}
	for i, f := range got {
		if _, err := parseReply6(f); err == nil || passes6(t, f) {
			t.Errorf("probe %d reads as a reply", i)
		}
		if f[0] != 0x33 || !bytes.Equal(f[6:12], rack6Net.MAC) || netip.AddrFrom16([16]byte(f[etherLen+8:])) != rack6Net.Local {
			t.Errorf("probe %d goes to %x from %x", i, f[:6], f[6:12])
		}
		ip := f[etherLen:]
		pseudo := append(bytes.Clone(ip[8:40]), 0, 0, ip[4], ip[5], 0, 0, 0, ip[6])
		if sum := append(append(pseudo, ip[ip6Len:]...), make([]byte, len(ip)%2)...); checksum(sum) != 0 {
			t.Errorf("probe %d has a wrong checksum", i)
		}
	}
	if bytes.Contains(got[0], []byte{0, 14, 0, 0}) { // rapid commit would make a lease of it
		t.Error("the probe asks for a lease at once")
	}
	if got := probes6(Network{MAC: rack6Net.MAC}, client); got != nil {
		t.Errorf("%d probes where there is no IPv6", len(got))
	}
}

// newStreet6 is a street where IPv6 is declared, too.
func newStreet6(subnets ...fleet.Subnet) *street {
	s := newStreet(fleet.Full)
	s.SetSubnets(subnets)
	return s
}

func (s *street) hear6(t *testing.T, frame []byte, probed bool) {
	t.Helper()
	r, err := parseReply6(frame)
	if err != nil {
		t.Fatal(err)
	}
	s.table.note(rack6Net, r, probed)
}

func rack6(mode fleet.DHCPMode, change ...func(*fleet.Subnet)) fleet.Subnet {
	n := fleet.Subnet{Name: "rack6", CIDR: netip.MustParsePrefix("fd77::/64"), Mode: mode}
	for _, c := range change {
		c(&n)
	}
	return n
}

// Servers of IPv6, as those of IPv4, belong nowhere unless site.yaml says so.
// Routers belong wherever they do not contradict it.
func TestWhoBelongsWhereByIPv6(t *testing.T) {
	known := func(n *fleet.Subnet) { n.KnownDHCP = []netip.Addr{otherAddr} }
	slaac := func(n *fleet.Subnet) { n.SLAAC = true }
	gate := func(n *fleet.Subnet) { n.Router = netip.MustParseAddr("fd77::1") }
	gateFar := func(n *fleet.Subnet) { n.Router = netip.MustParseAddr("fd77::fe") }
	rack4 := fleet.Subnet{Name: "rack4", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: fleet.Full}
	offer := said6(advertise6, address6(60)...)
	url := option6(optBootURL, []byte("http://x/y.efi")...)
	home, own := prefix6("fd77::/64", 0x80), prefix6("fd77::/64", 0xc0)
	const server, proxy, router = "E-DHCP-ROGUE", "E-DHCP-ROGUE-PROXY", "E-RA-ROGUE"
	tests := map[string]struct {
		subnet fleet.Subnet
		frame  []byte
		want   string
	}{
		"a server where we observe":                    {rack6(fleet.Observe), offer, server},
		"a server where we serve":                      {rack6(fleet.Full), offer, server},
		"a server that is known":                       {rack6(fleet.Full, known), offer, ""},
		"one known by its DUID":                        {rack6(fleet.Full, func(n *fleet.Subnet) { n.KnownDUIDs = []string{"000300015254009a1107"} }), offer, ""},
		"a server that gives options alone":            {rack6(fleet.Full), said6(reply6), ""},
		"one that has machines boot":                   {rack6(fleet.Full), said6(reply6, url...), proxy},
		"a router where we observe":                    {rack6(fleet.Observe), advertised(0, 1800, own), ""},
		"the router of the site":                       {rack6(fleet.Full, gateFar), advertised(0x80, 1800, home), ""},
		"it, where none is declared":                   {rack6(fleet.Reserved), advertised(0xc0, 1800, home), ""},
		"machines are not to ask DHCPv6":               {rack6(fleet.Full), advertised(0x40, 1800, home), router},
		"nor where they may make addresses":            {rack6(fleet.Full, slaac), advertised(0, 1800, own), router},
		"a default router beside us":                   {rack6(fleet.Full, gate), advertised(0x80, 1800, home), router},
		"a router, but no default one":                 {rack6(fleet.Full, gate), advertised(0x80, 0, home), ""},
		"machines are to make addresses":               {rack6(fleet.Full), advertised(0x80, 0, own), router},
		"machines may make addresses":                  {rack6(fleet.Full, slaac), advertised(0x80, 0, own), ""},
		"they are to make others":                      {rack6(fleet.Full, slaac), advertised(0x80, 0, prefix6("fd99::/64", 0xc0)), router},
		"another network on the link":                  {rack6(fleet.Full), advertised(0x80, 0, prefix6("fd99::/64", 0x80)), ""},
		"a network that is wider than ours":            {rack6(fleet.Full), advertised(0x80, 0, prefix6("fd77::/48", 0x80)), router},
		"a router that is known":                       {rack6(fleet.Full, known), advertised(0, 1800, own), ""},
		"a server where IPv4 alone is declared":        {rack4, offer, ""},
		"it, and has machines boot":                    {rack4, said6(advertise6, append(address6(60), url...)...), server},
		"a router where IPv4 alone is declared":        {rack4, advertised(0, 1800, own), ""},
		"a network that is not declared: nobody minds": {fleet.Subnet{Name: "far", CIDR: netip.MustParsePrefix("fd99::/64"), Mode: fleet.Full}, offer, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			both := rack6Net
			both.Addrs = append(slices.Clone(both.Addrs), netip.MustParsePrefix("10.77.0.1/24"))
			s := newStreet6(tt.subnet)
			r, err := parseReply6(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			s.table.note(both, r, true)
			var want []string
			if tt.want != "" {
				want = []string{tt.want + " " + otherAddr.String() + " on subnet " + tt.subnet.Name}
			}
			if got := s.board.names(); !slices.Equal(got, want) {
				t.Errorf("alarms %q, want %q; servers %+v", got, want, s.Servers())
			}
		})
	}
}

func TestARouterThatMendsItsWaysIsNoAlarm(t *testing.T) {
	s := newStreet6(rack6(fleet.Full))
	on := "E-RA-ROGUE " + otherAddr.String() + " on subnet rack6"
	s.hear6(t, advertised(0, 1800, prefix6("fd77::/64", 0xc0)), true)
	if got := s.board[on]; !strings.Contains(got, "it does not tell machines to ask DHCPv6: 52:54:00:9a:11:07 on eno3, default router for 30m0s") {
		t.Fatalf("alarms %q", s.board)
	}
	s.hear6(t, said6(advertise6, address6(60)...), true) // a server at the same address is another matter
	s.hear6(t, advertised(0x80, 1800, prefix6("fd77::/64", 0x80)), true)
	if got := s.board.names(); !slices.Equal(got, []string{"E-DHCP-ROGUE " + otherAddr.String() + " on subnet rack6"}) {
		t.Errorf("alarms %q, want that about the server alone", got)
	}
	s.clock = s.clock.Add(2*DefaultEvery + answerTime + time.Second)
	s.table.expire()
	if got := s.board.names(); len(got) != 0 || len(s.Servers()) != 0 {
		t.Errorf("alarms %q, servers %+v after they stopped", got, s.Servers())
	}
}

func TestServersOfIPv6BehindRelaysAreKnownByTheirDUID(t *testing.T) {
	s := newStreet6(rack6(fleet.Full))
	duid := []byte{0, 3, 0, 1, 0x52, 0x54, 0, 0x9a, 0x11, 7}
	s.ChosenDUID(duid, "rack6")
	on := "E-DHCP-ROGUE DUID 000300015254009a1107 on subnet rack6"
	if got := s.board[on]; !strings.Contains(got, "clients took its offers") {
		t.Errorf("alarms %v, want what clients say", s.board)
	}
	s.hear6(t, said6(advertise6, address6(60)...), true)
	s.ChosenDUID(duid, "rack6")
	if got := s.Servers(); len(got) != 1 || got[0].MAC == "" || s.board[on] != "" {
		t.Errorf("Servers = %+v, want it once, as it was heard; alarms %q", got, s.board)
	}
	s.ChosenDUID(make([]byte, maxDUID+1), "rack6")
	if got := s.Servers(); len(got) != 1 {
		t.Errorf("Servers = %+v after a DUID that can be none", got)
	}
}

// A flood of forged replies and of advertisements does not keep an answer to a
// probe from being heard, in that very second.
func TestAnswersAreHeardInAFlood(t *testing.T) {
	s := newStreet6(rack6(fleet.Full))
	s.client = fleet.MAC(client6.String())
	wire := &tap{family: families[1], net: rack6Net}
	answer := said6(advertise6, address6(60)...)
	forged := bytes.Replace(answer, client6, net.HardwareAddr{2, 0, 0, 0, 0, 6}, 1)
	copy(forged[etherLen+8:], netip.MustParseAddr("fe80::bad").AsSlice())
	var room rooms
	for range framesPerSecond/2 - 1 {
		s.Watch.hear(wire, forged, &room)
		s.Watch.hear(wire, advertised(0, 0), &room)
	}
	s.Watch.hear(wire, answer, &room)
	if got := s.Servers(); !slices.ContainsFunc(got, func(f Server) bool { return f.Addr == otherAddr && f.Full && f.Probed }) {
		t.Errorf("servers %+v, want the one that answered", got)
	}
	if st := s.Stats(); st.Replies != 2*repliesPerSecond+1 || st.Limited == 0 {
		t.Errorf("Stats = %+v, want so many replies of each kind", st)
	}
	s.Watch.hear(wire, answer, &room)
	s.Watch.hear(wire, answer, &room)
	if st := s.Stats(); st.Replies != 2*repliesPerSecond+2 {
		t.Errorf("Stats = %+v, want no more frames than are read in a second", st)
	}
}

// Who makes up routers leaves room for servers, and the other way round.
func TestAFloodOfRoutersIsBounded(t *testing.T) {
	s := newStreet6(rack6(fleet.Full))
	for i := range 1000 {
		r, err := parseReply6(advertised(0, 1800))
		if err != nil {
			t.Fatal(err)
		}
		r.Server = netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)})
		s.table.note(rack6Net, r, true)
	}
	s.hear6(t, said6(advertise6, address6(60)...), false)
	if got := len(s.Servers()); got != maxServers+1 || s.board["E-DHCP-ROGUE "+otherAddr.String()+" on subnet rack6"] == "" {
		t.Errorf("%d are remembered, want %d routers and the server", got, maxServers)
	}
}

func FuzzReplies6(f *testing.F) {
	names, _ := filepath.Glob("../dhcp6/testdata/*.pcap")
	for _, name := range names {
		for _, r := range frames(f, name) {
			if passes6(f, r) {
				f.Add(r)
			}
		}
	}
	f.Add(said6(advertise6, address6(60)...))
	f.Add(advertised(0xc0, 1800, prefix6("fd77::/64", 0x80)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseReply6(raw)
		if err != nil {
			return
		}
		if !s.Server.IsValid() || len(s.MAC) != 6 || len(s.DUID) > 2*maxDUID || s.Router == (s.DUID != "") || len(s.Advert.Prefixes) > maxPrefixes ||
			s.File != fleet.CleanText(s.File) || s.Addr.IsValid() && !s.Addr.Is6() {
			t.Errorf("parseReply6 = %+v", s)
		}
	})
}
