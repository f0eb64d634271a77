package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rackstage/provision/fleet"
)

// relayed wraps a message as two relays in a row would: a switch that names
// port and network, and a router.
func relayed(tb testing.TB, m *dhcpv6.Message, peer netip.Addr, link string, more ...dhcpv6.Option) []byte {
	tb.Helper()
	near := wrapped(tb, m, peer, netip.MustParseAddr(link), append([]dhcpv6.Option{dhcpv6.OptInterfaceID([]byte("eth1/7"))}, more...)...)
	return wrapped(tb, near, theSwitch, netip.IPv6Unspecified(), &dhcpv6.OptRemoteID{EnterpriseNumber: 9, RemoteID: []byte("leaf-4")}).ToBytes()
}

func wrapped(tb testing.TB, d dhcpv6.DHCPv6, peer, link netip.Addr, more ...dhcpv6.Option) *dhcpv6.RelayMessage {
	tb.Helper()
	r, err := dhcpv6.EncapsulateRelay(d, dhcpv6.MessageTypeRelayForward, link.AsSlice(), peer.AsSlice())
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range more {
		r.AddOption(o)
	}
	return r
}

func fromRelay() arrival {
	return arrival{ifindex: rackIndex, from: netip.AddrPortFrom(theRelay, serverPort), to: serverIP}
}

func TestThroughRelaysAClientIsKnownAsOnItsOwnLink(t *testing.T) {
	b := newBench(t)
	hidden := netip.MustParseAddr("fe80::dead:beef:1:2") // its link-local address hides its MAC
	raw := relayed(t, uefi.say(t, dhcpv6.MessageTypeSolicit, nil), hidden, "fd99::1", dhcpv6.OptClientLinkLayerAddress(iana.HWTypeEthernet, theMAC.Hardware()))
	answer, ok := b.ask(t, raw, fromRelay()).(*dhcpv6.RelayMessage)
	if !ok || answer.MessageType != dhcpv6.MessageTypeRelayReply {
		t.Fatalf("answer %v, want a Relay-reply", answer)
	}
	near, ok := answer.Options.RelayMessage().(*dhcpv6.RelayMessage)
	if !ok || !bytes.Equal(near.Options.InterfaceID(), []byte("eth1/7")) || !near.PeerAddr.Equal(hidden.AsSlice()) {
		t.Fatalf("the inner Relay-reply is %v, want the port and the client's address in it", near)
	}
	inner, err := answer.GetInnerMessage()
	if err != nil {
		t.Fatal(err)
	}
	if got := addressIn(inner); !remote6().CIDR.Contains(got) {
		t.Errorf("offered %s, want an address of the relay's link", got)
	}
	if b.out[0].to != netip.MustParseAddrPort("[fd98::fe]:547") {
		t.Errorf("sent to %s, want the relay", b.out[0].to)
	}
	want := fleet.Place{Subnet: "remote6", Relay: netip.MustParseAddr("fd98::fe"), CircuitID: "eth1/7", RemoteID: "leaf-4"}
	if len(b.notes.seen) != 1 || b.notes.seen[0].MAC != theMAC || b.notes.seen[0].Place != want {
		t.Errorf("evidence %+v, want %s at %+v", b.notes.seen, theMAC, want)
	}
}

// A relay that nobody named, or a client that plays one, is not believed: not
// where its clients are, nor who they are.
func TestOnlyRelaysThatAreNamedAreBelieved(t *testing.T) {
	const claimed = fleet.MAC("52:54:00:00:00:99") // of somebody else
	says := []dhcpv6.Option{dhcpv6.OptInterfaceID([]byte("eth1/7")), dhcpv6.OptClientLinkLayerAddress(iana.HWTypeEthernet, claimed.Hardware())}
	none, local, remote := netip.IPv6Unspecified(), netip.MustParseAddr("fd98::9"), netip.MustParseAddr("fd99::9")
	foreign, onWire := netip.MustParseAddr("fd66::1"), netip.MustParseAddr("fd98::77")
	tests := map[string]struct {
		from, link netip.Addr
		router     netip.Addr // link-address of the named router that it passed; invalid when it came straight
		subnet     string     // "" for silence
		alarm      string
		mac        fleet.MAC
		circuit    string
	}{
		"the named relay":                              {theRelay, remote, netip.Addr{}, "remote6", "", claimed, "eth1/7"},
		"the named relay, without a link-address":      {theRelay, none, netip.Addr{}, "remote6", "", claimed, "eth1/7"},
		"another one for another network":              {onWire, remote, netip.Addr{}, "", "fd98::77", "", ""},
		"a client for another network":                 {machine, remote, netip.Addr{}, "", machine.String(), "", ""},
		"another one for our network":                  {onWire, local, netip.Addr{}, "rack6", "", theMAC, ""},
		"a client that plays a relay":                  {machine, local, netip.Addr{}, "rack6", "", theMAC, ""},
		"a switch on our wire":                         {machine, none, netip.Addr{}, "rack6", "", theMAC, ""},
		"somebody from afar for our network":           {foreign, local, netip.Addr{}, "", "fd66::1", "", ""},
		"somebody from afar for no network":            {foreign, none, netip.Addr{}, "", "fd66::1", "", ""},
		"a client that plays a relay behind the named": {machine, remote, netip.MustParseAddr("fd99::1"), "remote6", "", theMAC, "vlan 9"},
		"likewise, and the router names no network":    {remote, remote, none, "", remote.String(), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			v := uefi
			v.duid = "000300015254007ef734" // tells the MAC by itself
			r := wrapped(t, v.say(t, dhcpv6.MessageTypeSolicit, nil), machine, tt.link, says...)
			a := arrival{ifindex: rackIndex, from: netip.AddrPortFrom(tt.from, serverPort), to: serverIP}
			if tt.router.IsValid() {
				r = wrapped(t, r, tt.from, tt.router, dhcpv6.OptInterfaceID([]byte("vlan 9")))
				a = fromRelay()
			}
			answered := b.ask(t, r.ToBytes(), a) != nil
			if answered != (tt.subnet != "") {
				t.Fatalf("answered: %v, want %v", answered, tt.subnet != "")
			}
			var alarms []string
			if tt.alarm != "" {
				alarms = []string{fleet.CodeUnknownRelay + " relay " + tt.alarm}
			}
			if !slices.Equal(b.notes.raised, alarms) || b.Stats().UnknownRelays != int64(len(alarms)) {
				t.Errorf("alarms %q, counted %d; want %q", b.notes.raised, b.Stats().UnknownRelays, alarms)
			}
			if !answered {
				return
			}
			if ev := b.notes.seen[0]; ev.MAC != tt.mac || ev.Place.Subnet != tt.subnet || ev.Place.CircuitID != tt.circuit {
				t.Errorf("%s at %+v, want %s on %s at %q", ev.MAC, ev.Place, tt.mac, tt.subnet, tt.circuit)
			}
		})
	}
}

func TestARelayThatIsNotNamedIsAnAlarmUntilItIs(t *testing.T) {
	b := newBench(t)
	raw := relayed(t, uefi.say(t, dhcpv6.MessageTypeSolicit, nil), machine, "fd55::1")
	for range 3 {
		if got := b.ask(t, raw, fromRelay()); got != nil {
			t.Errorf("answered: %v", got)
		}
	}
	want := []string{fleet.CodeUnknownRelay + " relay fd98::fe"}
	if !slices.Equal(b.notes.raised, want) {
		t.Errorf("alarms %q, want %q", b.notes.raised, want)
	}
	declared := remote6()
	declared.CIDR = netip.MustParsePrefix("fd55::/64")
	b.SetSubnets([]fleet.Subnet{declared})
	if len(b.notes.raised) != 0 {
		t.Errorf("alarms %q after the relay was named", b.notes.raised)
	}
}

func TestRelaysInALoopAreCutOff(t *testing.T) {
	b := newBench(t)
	var d dhcpv6.DHCPv6 = agent.say(t, dhcpv6.MessageTypeSolicit, nil)
	for range maxHops + 1 {
		var err error
		if d, err = dhcpv6.EncapsulateRelay(d, dhcpv6.MessageTypeRelayForward, netip.MustParseAddr("fd98::5").AsSlice(), machine.AsSlice()); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.ask(t, d.ToBytes(), fromRelay()); got != nil || b.Stats().Malformed != 1 {
		t.Errorf("answer %v, counters %+v; want silence that is counted", got, b.Stats())
	}
}
