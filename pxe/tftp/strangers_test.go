package tftp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const card = "52:54:00:00:00:07"

func TestWhoAsksAgainAndAgainIsListedAndAPacketIsNot(t *testing.T) {
	client := netip.MustParseAddr("10.1.0.8")
	tests := map[string]struct {
		asks []time.Duration // when it asks
		look time.Duration
		want int // how often it asked, if it is listed
	}{
		"one packet":                        {[]time.Duration{0}, time.Second, 0},
		"a packet that came three times":    {[]time.Duration{0, 1, 2}, time.Second, 0},
		"a burst of packets":                {[]time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 800 * time.Millisecond}, time.Second, 0},
		"a packet now and then":             {[]time.Duration{0, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute}, 15 * time.Minute, 0},
		"iPXE":                              {[]time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond}, 4 * time.Second, 3},
		"UEFI":                              {[]time.Duration{0, 4 * time.Second, 8 * time.Second, 12 * time.Second, 16 * time.Second, 20 * time.Second}, 20 * time.Second, 6},
		"a BIOS":                            {[]time.Duration{0, 4 * time.Second, 12 * time.Second, 28 * time.Second, 60 * time.Second}, time.Minute, 5},
		"one that starts over, much later":  {[]time.Duration{0, 4 * time.Second, 8 * time.Second, 10 * time.Minute}, 10 * time.Minute, 4},
		"for as long as it may come again":  {[]time.Duration{0, 4 * time.Second, 8 * time.Second}, 15 * time.Minute, 3},
		"no longer when it has been silent": {[]time.Duration{0, 4 * time.Second, 8 * time.Second}, 16 * time.Minute, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var s Strangers
			for _, when := range tt.asks {
				s.Ask(client, "ipxe.efi", at(when))
			}
			got := s.list(at(tt.look))
			switch {
			case tt.want == 0 && len(got) > 0:
				t.Errorf("listed %+v, want nobody", got)
			case tt.want > 0 && (len(got) != 1 || got[0].Asked != tt.want || got[0].Client != client || got[0].Name != "ipxe.efi"):
				t.Errorf("listed %+v, want %s that asked %d times", got, client, tt.want)
			}
		})
	}
}

// A machine on our link asks as UEFI does, in the middle of a flood in made-up
// names.
func TestAFloodOfMadeUpStrangersPushesNoMachineOut(t *testing.T) {
	var s Strangers
	machine := netip.MustParseAddr("10.1.0.8")
	cards := map[netip.Addr]string{machine: card}
	liar := netip.MustParseAddr("10.2.0.0")
	flood := func(now time.Time) {
		for range 3 * mostStrange {
			s.Ask(liar, strings.Repeat("x", 500), now)
			liar = liar.Next()
		}
	}
	s.Ask(machine, "ipxe.efi", at(0))
	s.recognise(cards) // before others push it out, or after: it asks again
	for try := range 4 {
		now := at(time.Duration(try) * 4 * time.Second)
		flood(now)
		s.Ask(machine, "ipxe.efi", now)
		flood(now)
	}
	got := s.list(at(13 * time.Second))
	if len(got) != 1 || got[0].Client != machine || got[0].Card != card {
		t.Errorf("listed %d, %+v; want the machine", len(got), got)
	}
	if n, order := len(s.far.at), s.far.order.Len(); n != mostStrange || order != n || len(s.near.at) != 1 {
		t.Errorf("%d (%d in order) and %d are remembered, want %d and 1", n, order, len(s.near.at), mostStrange)
	}
	for _, e := range s.far.at {
		if name := e.Value.(*Stranger).Name; len(name) > mostOfName { //nolint:forcetypeassert // a crowd is of these
			t.Fatalf("a name of %d bytes is kept", len(name))
		}
	}
	if got := s.list(at(time.Hour)); len(got) != 0 || s.some() {
		t.Errorf("after an hour there are %+v, want nobody", got)
	}
}

// Who makes up neighbours as well is bounded all the same, and a hardware
// address stays known while its machine asks.
func TestStrangersOnTheLinkAreBoundedToo(t *testing.T) {
	var s Strangers
	cards := map[netip.Addr]string{}
	a := netip.MustParseAddr("10.1.0.0")
	for range mostStrange + 10 {
		cards[a] = card
		a = a.Next()
	}
	s.recognise(cards)
	for range 3 {
		for client := range cards {
			s.Ask(client, "f", at(0))
		}
	}
	if n := len(s.near.at); n != mostStrange || s.near.order.Len() != n || len(s.far.at) != 0 {
		t.Errorf("%d and %d are remembered, want %d and 0", n, len(s.far.at), mostStrange)
	}
	s = Strangers{}
	s.Ask(a, "f", at(0))
	s.recognise(map[netip.Addr]string{a: card})
	s.recognise(nil)
	for try := range 3 {
		s.Ask(a, "f", at(time.Duration(try)*time.Second))
	}
	if got := s.list(at(time.Second)); len(got) != 1 || got[0].Card != card {
		t.Errorf("listed %+v, want %s of %s", got, card, a)
	}
}

// TestALookAtStrangersNamesTheNodesOfThoseWhoMayNotAsk yet. Nobody asks for
// neighbours while there is no stranger.
func TestALookAtStrangersNamesTheNodesOfThoseWhoMayNotAsk(t *testing.T) {
	var s Strangers
	one, two, three, four := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.4")
	asked, broken := 0, error(nil) // broken: why there are no neighbours
	look := func(when time.Duration) []Stranger {
		return s.Look(at(when), func() (map[netip.Addr]string, error) {
			asked++
			if broken != nil {
				return nil, broken
			}
			return map[netip.Addr]string{one: card, two: "52:54:00:00:00:08", three: "52:54:00:00:00:09"}, nil
		}, func(a netip.Addr) bool { return a == four }, func(c string) string {
			return map[string]string{card: "prd-7", "52:54:00:00:00:08": "prd-8"}[c]
		})
	}
	if got := look(0); len(got) != 0 || asked != 0 {
		t.Errorf("of nobody: %+v, %d asked for neighbours", got, asked)
	}
	for try := range 3 {
		for i, a := range []netip.Addr{one, two, three, four} {
			s.Ask(a, "f", at(time.Duration(10*try+i)*time.Second))
		}
	}
	for range 2 { // the second time they have had their names already
		got := look(30 * time.Second)
		if len(got) != 3 || got[0].Card != card+", node prd-7" || got[1].Card != "52:54:00:00:00:08, node prd-8" || got[2].Card != "52:54:00:00:00:09" {
			t.Errorf("it sees %+v", got)
		}
	}
	if asked != 2 {
		t.Errorf("neighbours were read %d times, want twice", asked)
	}
	if broken = errors.New("no netlink"); len(look(30*time.Second)) != 3 {
		t.Error("without neighbours nobody is seen")
	}
}

func TestStrangersAreToldOfInOneLine(t *testing.T) {
	first := Stranger{Client: netip.MustParseAddr("10.1.0.8"), Card: card, Name: "boot/\x1b[31m\nipxe.efi" + strings.Repeat("x", 50), Asked: 7, First: at(0), Last: at(24 * time.Second)}
	var all []Stranger
	for i := range 6 {
		all = append(all, Stranger{Client: netip.AddrFrom4([4]byte{10, 1, 0, byte(20 + i)})})
	}
	begin := `10.1.0.8 (52:54:00:00:00:07) asked 7 times in 24s, for "boot/\x1b[31m\nipxe.efixxxxxxxxxxxxxxxxxxxxx" last`
	for n, want := range map[int]string{
		0: "", 1: "; so did 10.1.0.20", 2: "; so did 10.1.0.20, 10.1.0.21", 6: "; so did 10.1.0.20, 10.1.0.21 and 4 more",
	} {
		if got := TellStrangers(append([]Stranger{first}, all[:n]...), ""); got != begin+want {
			t.Errorf("%d others:\n got %s\nwant %s", n, got, begin+want)
		}
	}
	if got, want := TellStrangers([]Stranger{first}, "why"), begin+"; why"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := TellStrangers(nil, "why"); got != "" {
		t.Errorf("of nobody it says %q", got)
	}
}

// On the wire: who asks once, who asks a hundred times at once, and who asks as
// a machine does. All of them hear nothing.
func TestAStrangerThatAsksAgainIsFoundOnTheWire(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single port %t", single), func(t *testing.T) {
			t.Parallel()
			var heard Strangers
			server, to := serveAt(t, "udp4", "127.0.0.1:0", Options{
				Open: holding(map[string][]byte{"f": noise(1000)}), SinglePort: single, Strangers: &heard,
				Serves: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") },
			})
			once, burst, machine, writer := newSpoofer(t, "127.9.8.1"), newSpoofer(t, "127.9.8.2"), newSpoofer(t, "127.9.8.3"), newSpoofer(t, "127.9.8.4")
			once.send(t, spoofedRequest, to)
			for range 100 {
				burst.send(t, spoofedRequest, to)
			}
			if _, err := newReader(t, "127.0.0.1:0", to).read("f", ""); err != nil {
				t.Error(err)
			}
			for range strangerOften {
				machine.send(t, spoofedRequest, to)
				writer.send(t, "\x00\x02f\x00octet\x00", to) // no machine boots so
				if size, _ := machine.drawn(strangerApart + 50*time.Millisecond); size > 0 {
					t.Errorf("the machine drew %d bytes", size)
				}
			}
			got := heard.list(time.Now())
			if len(got) != 1 || got[0].Client != machine.victim || got[0].Name != "f" || got[0].Asked != strangerOften {
				t.Errorf("listed %+v, want %s", got, machine.victim)
			}
			if n := server.Stats().Strangers; n != 101+2*strangerOften {
				t.Errorf("%d requests of strangers were counted", n)
			}
		})
	}
}
