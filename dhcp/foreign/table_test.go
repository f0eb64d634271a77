package foreign

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A board is the alarms that stand.
type board map[string]string

func (b board) Raise(code, on, detail string) { b[code+" "+on] = detail }
func (b board) Clear(code, on string)         { delete(b, code+" "+on) }

func (b board) names() []string { return slices.Sorted(maps.Keys(b)) }

// A street is a watch that does not run, and its clock.
type street struct {
	*Watch
	board board
	clock time.Time
}

var rackNet = Network{Index: 2, Name: "eno2", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.20.0.1/22")}}

func newStreet(mode fleet.DHCPMode, known ...string) *street {
	s := &street{board: board{}, clock: time.Unix(1_800_000_000, 0)}
	s.Watch = New(Options{
		Networks: func() []Network { return []Network{rackNet} }, Own: func(netip.Addr) bool { return false },
		Alarms: s.board, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.clock },
	})
	n := fleet.Subnet{Name: "rack", CIDR: netip.MustParsePrefix("10.20.0.0/22"), Mode: mode}
	for _, k := range known {
		n.KnownDHCP = append(n.KnownDHCP, netip.MustParseAddr(k))
	}
	s.SetSubnets([]fleet.Subnet{n})
	return s
}

// hear is a reply of a server; one that gives no address is a proxy's.
func (s *street) hear(server, gives string, probed bool) {
	r := sighting{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Server: netip.MustParseAddr(server), PXE: gives == ""}
	if gives != "" {
		r.Addr = netip.MustParseAddr(gives)
	}
	s.table.note(rackNet, r, probed)
	s.clock = s.clock.Add(time.Millisecond)
}

func TestWhoBelongsWhere(t *testing.T) {
	tests := map[string]struct {
		mode  fleet.DHCPMode
		known []string
		heard [][2]string // server, what it gives
		want  []string
	}{
		"a server where we observe":       {fleet.Observe, nil, [][2]string{{"10.20.0.254", "10.20.0.9"}}, []string{"E-DHCP-ROGUE 10.20.0.254 on subnet rack"}},
		"a server where we serve":         {fleet.Full, nil, [][2]string{{"10.20.0.254", "10.20.0.9"}}, []string{"E-DHCP-ROGUE 10.20.0.254 on subnet rack"}},
		"one that is known":               {fleet.Full, []string{"10.20.0.254"}, [][2]string{{"10.20.0.254", "10.20.0.9"}}, nil},
		"the server that we stand beside": {fleet.Proxy, nil, [][2]string{{"10.20.0.254", "10.20.0.9"}}, nil},
		"a second one beside it":          {fleet.Proxy, nil, [][2]string{{"10.20.0.254", "10.20.0.9"}, {"10.20.0.7", "10.20.0.8"}}, []string{"E-DHCP-ROGUE 10.20.0.7 on subnet rack"}},
		"another one than the known":      {fleet.Proxy, []string{"10.20.0.7"}, [][2]string{{"10.20.0.254", "10.20.0.9"}, {"10.20.0.7", "10.20.0.8"}}, []string{"E-DHCP-ROGUE 10.20.0.254 on subnet rack"}},
		"a second proxy":                  {fleet.Proxy, nil, [][2]string{{"10.20.0.254", "10.20.0.9"}, {"10.20.0.8", ""}}, []string{"E-DHCP-ROGUE-PROXY 10.20.0.8 on subnet rack"}},
		"a proxy that gives addresses":    {fleet.Observe, nil, [][2]string{{"10.20.0.8", ""}, {"10.20.0.8", "10.20.0.9"}}, []string{"E-DHCP-ROGUE 10.20.0.8 on subnet rack"}},
		"one of quite another network":    {fleet.Observe, nil, [][2]string{{"192.168.1.1", "192.168.1.100"}}, []string{"E-DHCP-ROGUE 192.168.1.1 on subnet rack"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStreet(tt.mode, tt.known...)
			for _, h := range tt.heard {
				s.hear(h[0], h[1], true)
			}
			if got := s.board.names(); !slices.Equal(got, tt.want) {
				t.Errorf("alarms %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAServerThatARelayHearsIsOneOfOurs(t *testing.T) {
	s := newStreet(fleet.Full)
	far := fleet.Subnet{Name: "far", CIDR: netip.MustParsePrefix("10.30.0.0/24"), Mode: fleet.Full}
	s.SetSubnets([]fleet.Subnet{far})
	heard := Server{
		Addr: netip.MustParseAddr("10.30.0.254"), MAC: "52:54:00:00:00:09", Relay: netip.MustParseAddr("10.30.0.1"), Full: true,
		Offers: netip.MustParsePrefix("10.30.0.9/24"),
	}
	s.Relayed("far", heard)
	s.SetSubnets([]fleet.Subnet{far}) // it stays where the relay said that it is
	on := "E-DHCP-ROGUE 10.30.0.254 on subnet far"
	if got := s.board[on]; !strings.Contains(got, "52:54:00:00:00:09, through relay 10.30.0.1, offers 10.30.0.9/24") {
		t.Errorf("alarms %v, want one with its hardware address and the relay", s.board)
	}
	far.KnownDHCP = []netip.Addr{heard.Addr}
	s.SetSubnets([]fleet.Subnet{far})
	if got := s.board.names(); len(got) != 0 {
		t.Errorf("alarms %q about a server that is known", got)
	}
	far.KnownDHCP = nil
	s.SetSubnets([]fleet.Subnet{far})
	s.clock = s.clock.Add(fleet.AlarmHold)
	s.table.expire()
	if got := s.board.names(); len(got) != 0 {
		t.Errorf("alarms %q about what no relay says any more", got)
	}
}

func TestARouterThatARelayHearsIsHeldAgainstWhatIsDeclared(t *testing.T) {
	far := fleet.Subnet{Name: "far6", CIDR: netip.MustParsePrefix("fd78::/64"), Mode: fleet.Full}
	beside := fleet.Subnet{Name: "guests6", CIDR: netip.MustParsePrefix("fd79::/64"), Mode: fleet.Observe, SLAAC: true}
	observed := far
	observed.Mode = fleet.Observe
	const on = "E-RA-ROGUE fe80::9 on subnet far6"
	tests := map[string]struct {
		subnets []fleet.Subnet
		says    Advert
		want    []string
	}{
		"it does not tell machines to ask DHCPv6":    {[]fleet.Subnet{far}, Advert{}, []string{on}},
		"nobody serves that subnet":                  {[]fleet.Subnet{observed, beside}, Advert{}, nil},
		"it says what we say":                        {[]fleet.Subnet{far}, Advert{Managed: true, Prefixes: []Prefix{{Prefix: far.CIDR}}}, nil},
		"it speaks of another subnet on that wire":   {[]fleet.Subnet{far, beside}, Advert{Managed: true, Prefixes: []Prefix{{Prefix: beside.CIDR, Auto: true}}}, nil},
		"it lets machines take addresses of nowhere": {[]fleet.Subnet{far}, Advert{Managed: true, Prefixes: []Prefix{{Prefix: beside.CIDR, Auto: true}}}, []string{on}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStreet(fleet.Full)
			s.SetSubnets(tt.subnets)
			s.Relayed("far6", Server{Addr: netip.MustParseAddr("fe80::9"), MAC: "52:54:00:00:00:09", Relay: netip.MustParseAddr("fd78::1"), Edge: "west", Router: true, Advert: tt.says})
			if got := s.board.names(); !slices.Equal(got, tt.want) {
				t.Errorf("alarms %q, want %q", got, tt.want)
			}
			if detail := s.board[on]; len(tt.want) > 0 && !strings.Contains(detail, "through relay west fd78::1") {
				t.Errorf("the alarm says %q, want the relay's name in it", detail)
			}
		})
	}
}

// TestOfTwoRelaysOnANetworkNoneIsAnotherServer has each hear the answers of
// ours that the other one passes.
func TestOfTwoRelaysOnANetworkNoneIsAnotherServer(t *testing.T) {
	s := newStreet(fleet.Full)
	s.o.DUID = "0004aabb"
	s.SetSubnets([]fleet.Subnet{{Name: "far6", CIDR: netip.MustParsePrefix("fd78::/64"), Mode: fleet.Full}})
	heard := Server{Addr: netip.MustParseAddr("fe80::2"), DUID: "0004aabb", MAC: "52:54:00:00:00:09", Relay: netip.MustParseAddr("fd78::1"), Full: true}
	s.Relayed("far6", heard)
	if got := s.board.names(); len(got) != 0 {
		t.Errorf("alarms %q about our own answers", got)
	}
	heard.DUID = "0004ccdd"
	s.Relayed("far6", heard)
	if got := s.board.names(); len(got) != 1 {
		t.Errorf("alarms %q, want that about another server", got)
	}
}

func TestAServerIsGoneWhenItStops(t *testing.T) {
	s := newStreet(fleet.Observe)
	s.hear("10.20.0.254", "10.20.0.9", true)
	s.hear("10.20.0.7", "10.20.0.8", false) // answers others only
	s.clock = s.clock.Add(2*DefaultEvery + answerTime - time.Second)
	s.table.expire()
	if got := s.board.names(); len(got) != 2 {
		t.Fatalf("alarms %q while they may still answer, want two", got)
	}
	s.clock = s.clock.Add(2 * time.Second)
	s.table.expire()
	if got := s.board.names(); !slices.Equal(got, []string{"E-DHCP-ROGUE 10.20.0.7 on subnet rack"}) {
		t.Errorf("alarms %q, want that of the server that was never asked", got)
	}
	s.clock = s.clock.Add(fleet.AlarmHold)
	s.table.expire()
	if got := s.board.names(); len(got) != 0 || len(s.Servers()) != 0 {
		t.Errorf("alarms %q, servers %v; want none", got, s.Servers())
	}
}

func TestTheNextServerBelongsThereWhenTheFirstIsGone(t *testing.T) {
	s := newStreet(fleet.Proxy)
	s.hear("10.20.0.254", "10.20.0.9", true)
	s.clock = s.clock.Add(time.Minute)
	s.hear("10.20.0.7", "10.20.0.8", true)
	s.clock = s.clock.Add(30 * time.Second)
	s.table.expire()
	if got := s.board.names(); len(got) != 0 {
		t.Errorf("alarms %q, want none: there is one server", got)
	}
}

func TestAChangeOfModeChangesTheAlarms(t *testing.T) {
	s := newStreet(fleet.Observe)
	s.hear("10.20.0.254", "10.20.0.9", true)
	n := fleet.Subnet{Name: "prd", CIDR: netip.MustParsePrefix("10.20.0.0/22"), Mode: fleet.Proxy}
	s.SetSubnets([]fleet.Subnet{n})
	if got := s.board.names(); len(got) != 0 {
		t.Errorf("alarms %q beside the one server, want none", got)
	}
	n.Mode = fleet.Full
	s.SetSubnets([]fleet.Subnet{n})
	s.hear("10.20.0.254", "10.20.0.9", true)
	if got := s.board.names(); !slices.Equal(got, []string{"E-DHCP-ROGUE 10.20.0.254 on subnet prd"}) {
		t.Errorf("alarms %q, want one, with the new name of the subnet", got)
	}
}

func TestServersBehindRelaysAreKnownByTheirClients(t *testing.T) {
	s := newStreet(fleet.Full)
	s.Chosen(netip.MustParseAddr("10.20.0.254"), "rack")
	if got := s.board["E-DHCP-ROGUE 10.20.0.254 on subnet rack"]; !strings.Contains(got, "clients took its offers") {
		t.Errorf("alarms %v, want what clients say", s.board)
	}
	s.hear("10.20.0.254", "10.20.0.9", true)
	if got := s.Servers(); len(got) != 1 || got[0].MAC == "" {
		t.Errorf("Servers = %+v, want it once, as it was heard", got)
	}
}

func TestAFloodOfServersIsBounded(t *testing.T) {
	s := newStreet(fleet.Full)
	for i := range 5000 {
		s.hear(fmt.Sprintf("10.21.%d.%d", i/256, i%256), "10.20.0.9", false)
		s.Chosen(netip.AddrFrom4([4]byte{10, 22, byte(i / 256), byte(i)}), "rack")
	}
	if got := len(s.Servers()); got != maxServers {
		t.Errorf("%d servers are remembered, want %d", got, maxServers)
	}
	if st := s.Stats(); st.Refused < 4000 || st.Limited == 0 {
		t.Errorf("Stats = %+v, want what was not noted", st)
	}
}

// Who floods us with what anybody can write neither keeps a server out of the
// table nor drives one out.
func TestServersThatAnswerAreNotLostInAFlood(t *testing.T) {
	s := newStreet(fleet.Full)
	flood := func(net byte) {
		for i := range 1000 {
			s.Chosen(netip.AddrFrom4([4]byte{10, net, byte(i / 256), byte(i)}), "rack")
			s.clock = s.clock.Add(20 * time.Millisecond)
		}
	}
	has := func(server string) bool {
		return s.board["E-DHCP-ROGUE "+server+" on subnet rack"] != "" &&
			slices.ContainsFunc(s.Servers(), func(f Server) bool { return f.Addr.String() == server })
	}
	s.hear("10.20.0.254", "10.20.0.9", false)
	s.hear("10.20.0.254", "10.20.0.8", false)
	flood(22)
	if got := len(s.Servers()); got != maxServers {
		t.Fatalf("%d servers are remembered, want the table full", got)
	}
	s.hear("10.20.0.253", "10.20.0.9", true) // comes when there is no room
	flood(23)
	for i := range 2 * maxServers { // somebody forges replies, too
		s.hear(fmt.Sprintf("10.24.0.%d", i), "10.20.0.9", false)
	}
	s.hear("10.20.0.252", "10.20.0.9", true)
	for _, server := range []string{"10.20.0.253", "10.20.0.252"} {
		if !has(server) {
			t.Errorf("%s answers our probes and is not in the table", server)
		}
	}
	if !has("10.20.0.254") {
		t.Error("the server that was heard first was driven out by what somebody made up")
	}
	if st := s.Stats(); len(s.board) != maxServers || st.Evicted < maxServers-2 || st.Refused == 0 {
		t.Errorf("%d alarms, Stats = %+v; want one for each server, and what was refused and forgotten", len(s.board), st)
	}
}

// Whatever a frame does to us, the next one is heard.
func TestAFrameThatMakesUsFailCostsOnlyItself(t *testing.T) {
	w := New(Options{
		Networks: func() []Network { return nil }, Own: func(netip.Addr) bool { return false },
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	frames := 0
	odd := &tap{family: &family{parse: func([]byte) (sighting, error) {
		if frames++; frames == 1 {
			panic("a bug")
		}
		return sighting{}, errors.New("no reply")
	}}}
	var room rooms
	w.hear(odd, []byte{1}, &room)
	w.hear(odd, []byte{2}, &room)
	if st := w.Stats(); st.Panics != 1 || st.Malformed != 1 {
		t.Errorf("Stats = %+v, want a panic and a malformed frame", st)
	}
}
