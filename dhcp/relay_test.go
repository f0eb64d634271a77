package dhcp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// farSubnet is behind a router.
func farSubnet() fleet.Subnet {
	return fleet.Subnet{
		Name: "far", CIDR: netip.MustParsePrefix("10.88.0.0/24"), Mode: fleet.Full, UnknownShare: 100,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.88.0.10"), Last: netip.MustParseAddr("10.88.0.20")}},
	}
}

func fromRelay(relay string) arrival {
	return arrival{ifindex: testIfindex, from: netip.AddrPortFrom(netip.MustParseAddr(relay), serverPort), to: netip.MustParseAddr("10.77.0.1")}
}

func TestOnlyRelaysThatAreDeclaredAreAnswered(t *testing.T) {
	link := option(82, "\x05\x04\x0a\x58\x00\x01") // link selection 10.88.0.1
	tests := map[string]struct {
		declared []string
		giaddr   string
		changes  []func(*dhcpv4.DHCPv4)
		want     dhcpv4.MessageType
		advice   string
	}{
		"none is named, and it is on the subnet":           {nil, "10.88.0.1", nil, offer, ""},
		"none is named, and it is on another of ours":      {nil, "10.77.0.9", []func(*dhcpv4.DHCPv4){link}, silence, "add it to relays: there"},
		"none is named, and it selects what it is on":      {nil, "10.88.0.2", []func(*dhcpv4.DHCPv4){link}, offer, ""},
		"none is named, and it is from nowhere":            {nil, "192.0.2.1", []func(*dhcpv4.DHCPv4){link}, silence, "add it to relays: there"},
		"its network is not declared":                      {nil, "10.99.0.1", nil, silence, "declare a subnet that contains 10.99.0.1"},
		"it selects a link that is not declared":           {nil, "10.77.0.9", []func(*dhcpv4.DHCPv4){option(82, "\x05\x04\x0a\x63\x00\x01")}, silence, "declare a subnet"},
		"it is named":                                      {[]string{"10.88.0.1"}, "10.88.0.1", nil, offer, ""},
		"it is named, and not on the subnet":               {[]string{"192.0.2.1"}, "192.0.2.1", nil, offer, ""},
		"it is named, and selects the link":                {[]string{"192.0.2.1"}, "192.0.2.1", []func(*dhcpv4.DHCPv4){link}, offer, ""},
		"another is named":                                 {[]string{"10.88.0.2"}, "10.88.0.1", nil, silence, "add it to relays: of subnet far"},
		"another is named, and it selects the link":        {[]string{"10.88.0.2"}, "10.77.0.9", []func(*dhcpv4.DHCPv4){link}, silence, "add it to relays: of subnet far"},
		"a link selection of no address is none":           {nil, "10.88.0.1", []func(*dhcpv4.DHCPv4){option(82, "\x05\x02\x0a\x63")}, offer, ""},
		"a link selection that is cut off is none":         {nil, "10.88.0.1", []func(*dhcpv4.DHCPv4){option(82, "\x05\x04\x0a\x63")}, offer, ""},
		"an endless row of empty suboptions comes to none": {nil, "10.88.0.1", []func(*dhcpv4.DHCPv4){option(82, strings.Repeat("\x09\x00", 100))}, offer, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			far := farSubnet()
			for _, r := range tt.declared {
				far.Relays = append(far.Relays, netip.MustParseAddr(r))
			}
			ts := newTestServer(t, rackSubnet(fleet.Full), far)
			in := packet(macA, discover, append(tt.changes, relayed(tt.giaddr))...)
			got, _ := ts.put(in.ToBytes(), fromRelay(tt.giaddr))
			if kindOf(got) != tt.want {
				t.Fatalf("answer = %s, want %s", kindOf(got), tt.want)
			}
			if got != nil && got.YourIPAddr.String() != "10.88.0.10" {
				t.Errorf("address = %s, want one of the client's network", got.YourIPAddr)
			}
			detail := ts.alarms.detail(fleet.CodeUnknownRelay, "relay "+tt.giaddr)
			if (detail != "") != (tt.advice != "") || !strings.Contains(detail, tt.advice) {
				t.Errorf("alarm %q, want %q", detail, tt.advice)
			}
			if n := ts.Stats().UnknownRelay; (n == 1) != (tt.advice != "") {
				t.Errorf("UnknownRelay = %d", n)
			}
		})
	}
}

func TestAnAlarmOfARelayEndsWithItsPackets(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	for range 1000 {
		ts.ask(packet(macA, discover, relayed("10.99.0.1")))
	}
	if ts.alarms.told != 1 {
		t.Errorf("a thousand packets raised the alarm %d times", ts.alarms.told)
	}
	ts.clock = ts.clock.Add(quietTime)
	if ts.Server.alarms.Expire(); ts.alarms.detail(fleet.CodeUnknownRelay, "relay 10.99.0.1") != "" {
		t.Error("the alarm is not cleared")
	}
}

// A relay that puts itself into option 54 hears renewals too (RFC 5107).
func TestARelayCanStandForTheServer(t *testing.T) {
	far := farSubnet()
	far.Relays = []netip.Addr{netip.MustParseAddr("10.88.0.1")}
	ts := newTestServer(t, rackSubnet(fleet.Full), far)
	info := option(82, "\x0b\x04\x0a\x58\x00\x01")
	by := relayed("10.88.0.1")
	got, r := ts.put(packet(macA, discover, info, by).ToBytes(), fromRelay("10.88.0.1"))
	if kindOf(got) != offer || got.ServerIdentifier().String() != "10.88.0.1" || r.from.String() != "10.77.0.1" {
		t.Fatalf("answer = %v from %s, want an offer in the relay's name, from us", got, r.from)
	}
	got, _ = ts.put(packet(macA, request, info, by, wants("10.88.0.10"), chooses("10.88.0.1")).ToBytes(), fromRelay("10.88.0.1"))
	if kindOf(got) != ack {
		t.Fatalf("answer = %v, want an ACK: the client chose us", got)
	}
	if n := ts.Stats().Foreign; n != 0 {
		t.Errorf("the relay was taken for another server %d times", n)
	}
	got, _ = ts.put(packet(macB, request, by, wants("10.88.0.11"), chooses("10.88.0.1")).ToBytes(), fromRelay("10.88.0.1"))
	if got != nil {
		t.Errorf("answer = %v: without the relay's word that address is another server", got)
	}
	got, _ = ts.put(packet(macB, discover, option(82, "\x0b\x04\x0a\x58\x00\x01")).ToBytes(), byBroadcast())
	if got.ServerIdentifier().String() != "10.77.0.1" {
		t.Errorf("a client without a relay made us call ourselves %s", got.ServerIdentifier())
	}
}

func TestARelayThatIsOurselvesIsALoop(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	if got := ts.ask(packet(macA, discover, relayed("10.77.0.1"))); got != nil {
		t.Errorf("answer = %v", got)
	}
	if st := ts.Stats(); st.RelayLoop != 1 || st.Ignored != 1 {
		t.Errorf("Stats = %+v, want one loop", st)
	}
}

func TestEvidenceSaysWhereAMachineIsPluggedIn(t *testing.T) {
	pxe := firmware("PXEClient:Arch:00007", 7)
	tests := map[string]struct {
		info string
		want fleet.Place
	}{
		"text": {"\x01\x08ge-0/0/7\x02\x06leaf-1", fleet.Place{CircuitID: "ge-0/0/7", RemoteID: "leaf-1"}},
		"bytes": {
			"\x01\x06\x00\x04\x00\x01\x00\x07\x02\x02\xff\xfe", fleet.Place{CircuitID: "0x000400010007", RemoteID: "0xfffe"},
		},
		"control characters": {"\x01\x04a\r\nb", fleet.Place{CircuitID: "0x610d0a62"}},
		"too long":           {"\x01\x80" + strings.Repeat("x", 128), fleet.Place{CircuitID: strings.Repeat("x", maxID)}},
		"nothing":            {"\x09\x01x", fleet.Place{}},
		"cut off":            {"\x01\x09ge", fleet.Place{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			far := farSubnet()
			far.Relays = []netip.Addr{netip.MustParseAddr("10.88.0.1")}
			ts := newTestServer(t, rackSubnet(fleet.Full), far)
			ts.put(packet(macA, discover, pxe, relayed("10.88.0.1"), option(82, tt.info)).ToBytes(), fromRelay("10.88.0.1"))
			tt.want.Subnet, tt.want.Relay = "far", netip.MustParseAddr("10.88.0.1")
			if got := ts.seen.events[0].Place; got != tt.want {
				t.Errorf("place = %+v, want %+v", got, tt.want)
			}
		})
	}
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.ask(packet(macA, discover, pxe, option(82, "\x01\x04port")))
	if got := ts.seen.events[0].Place; got != (fleet.Place{Subnet: "rack"}) {
		t.Errorf("place = %+v: a client without a relay can say anything", got)
	}
}

// Anybody can write a giaddr: where a machine is plugged in is for relays to
// say that somebody has named, and for ours.
func TestOnlyRelaysThatAreNamedOrOursAreBelieved(t *testing.T) {
	relay, other := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("10.88.0.2")
	tests := map[string]struct {
		relays, edges []netip.Addr
		from          string
		answered      bool
		believed      bool
	}{
		"nobody is named":                      {nil, nil, "10.88.0.1", true, false},
		"it is named":                          {[]netip.Addr{relay}, nil, "10.88.0.1", true, true},
		"it is named, and has other addresses": {[]netip.Addr{relay}, nil, "192.0.2.7", true, true},
		"another is named":                     {[]netip.Addr{other}, nil, "10.88.0.1", false, false},
		"it is ours":                           {nil, []netip.Addr{relay}, "10.88.0.1", true, true},
		"it is ours, and another is named":     {[]netip.Addr{other}, []netip.Addr{relay}, "10.88.0.1", true, true},
		"somebody says that it is ours":        {nil, []netip.Addr{relay}, "192.0.2.7", true, false},
		"another is ours":                      {nil, []netip.Addr{other}, "10.88.0.1", true, false},
	}
	said := option(82, "\x01\x04ge-7\x02\x04leaf\x0b\x04\x0a\x58\x00\x01")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			far := farSubnet()
			far.Relays, far.Edges = tt.relays, tt.edges
			far.Reservations = []fleet.Reservation{{CircuitID: hex.EncodeToString([]byte("ge-7")), Addr: netip.MustParseAddr("10.88.0.99")}}
			far.Classes = []fleet.DHCPClass{{
				Name: "ports", Match: fleet.ClassMatch{CircuitID: hex.EncodeToString([]byte("ge-"))}, Options: []fleet.DHCPOption{{Code: 150, Data: []byte("x")}},
			}}
			ts := newTestServer(t, rackSubnet(fleet.Full), far)
			in := packet(macA, discover, relayed("10.88.0.1"), said, firmware("PXEClient:Arch:00007", 7))
			got, _ := ts.put(in.ToBytes(), fromRelay(tt.from))
			if (got != nil) != tt.answered {
				t.Fatalf("answer = %v", got)
			}
			if got == nil {
				return
			}
			want, id, at := "10.88.0.10", "10.77.0.1", fleet.Place{Subnet: "far", Relay: relay}
			if tt.believed {
				want, id, at.CircuitID, at.RemoteID = "10.88.0.99", "10.88.0.1", "ge-7", "leaf"
			}
			if got.YourIPAddr.String() != want || got.ServerIdentifier().String() != id || (got.Options[150] != nil) != tt.believed {
				t.Errorf("answer = %v, want %s from %s", got, want, id)
			}
			if got := ts.seen.events[0].Place; got != at {
				t.Errorf("place = %+v, want %+v", got, at)
			}
			if string(got.Options[82]) != string(in.Options[82]) {
				t.Errorf("option 82 = %q: not echoed", got.Options[82])
			}
		})
	}
}

func TestNobodyAddsToWhatARelaySays(t *testing.T) {
	forged := "\x05\x04\x0a\x58\x00\x01\x02\x06forged\x0b\x04\x0a\x58\x00\x01"
	hidden := string([]byte{codeRelayInfo, byte(len(forged))}) + forged + "\xff"
	tests := map[string]struct {
		overload int // option 52
		at       int // where the client puts an option 82 of its own
	}{
		"in file":            {fileOverloaded, atFile},
		"in sname":           {nameOverloaded, atName},
		"in both":            {fileOverloaded | nameOverloaded, atName},
		"before the relay's": {0, atOptions},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			near, far := rackSubnet(fleet.Full), farSubnet()
			near.Relays = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
			far.Relays = near.Relays
			ts := newTestServer(t, near, far)
			b := bytes.Clone(packet(macA, discover, relayed("10.77.0.9")).ToBytes()[:atOptions])
			if tt.at == atOptions {
				b = append(b, hidden[:len(hidden)-1]...)
			} else {
				copy(b[tt.at:], hidden)
			}
			b = append(b, 53, 1, byte(discover), codeOverload, 1, byte(tt.overload))
			b = append(b, codeRelayInfo, 6, subCircuitID, 4, 'g', 'e', '-', '7', codeEnd)
			if got, _ := ts.put(b, fromRelay("10.77.0.9")); got != nil {
				t.Errorf("answer = %v, want none", got)
			}
			if n := ts.Stats().Malformed; n != 1 {
				t.Errorf("%d packets are counted as malformed, want this one", n)
			}
		})
	}
}

func FuzzSuboptionsOfARelay(f *testing.F) {
	for _, p := range clientPackets(f, "testdata/neighbours/relays.pcap") {
		m, err := dhcpv4.FromBytes(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Options.Get(dhcpv4.GenericOptionCode(codeRelayInfo)))
	}
	f.Add([]byte("\x01\x08ge-0/0/7\x02\x06leaf-1\x05\x04\x0a\x58\x00\x01\x0b\x04\x0a\x58\x00\x01"))
	f.Add([]byte("\x01\x06\x00\x04\x00\x01\x00\x07"))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, info []byte) {
		for code := range 256 {
			v := suboption(info, byte(code))
			if len(v) > len(info) || len(v) > 255 {
				t.Fatalf("suboption %d has %d bytes of %d", code, len(v), len(info))
			}
			if text := idText(v); fleet.CleanText(text) != text {
				t.Fatalf("idText(%x) = %q, which is not clean", v, text)
			}
		}
	})
}
