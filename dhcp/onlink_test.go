package dhcp

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
)

// byUnicast is how a packet comes that was sent to our address.
func byUnicast(from string) arrival {
	return arrival{ifindex: testIfindex, from: netip.AddrPortFrom(netip.MustParseAddr(from), clientPort), to: netip.MustParseAddr("10.77.0.1")}
}

// What a client says of its address names its network only where the packet
// came from that address, through a router. Client A has 10.88.0.10 of the far
// network by its relay, B has 10.77.0.100 of ours, when each of these begins.
func TestAClientIsOnTheNetworkThatItsPacketCameBy(t *testing.T) {
	const far, near, own = "10.88.0.10", "10.77.0.100", "255.255.255.255:68"
	bootp := func(mac fleet.MAC, addr string) []byte { return bootpPacket(mac, true, has(addr)) }
	tests := map[string]struct {
		in   []byte
		by   arrival
		want dhcpv4.MessageType
		addr string
		to   string
	}{
		"a renewal through a router":                  {packet(macA, request, has(far)).ToBytes(), byUnicast(far), ack, far, far + ":68"},
		"one that claims it by broadcast":             {packet(macA, request, has(far)).ToBytes(), byBroadcast(), nak, "", own},
		"one that claims it, from another address":    {packet(macA, request, has(far)).ToBytes(), byUnicast(near), nak, "", own},
		"one that claims it, from nowhere":            {packet(macA, request, has(far)).ToBytes(), byUnicast("0.0.0.0"), nak, "", own},
		"one that claims an address of nobody's":      {packet(macA, request, has("192.0.2.7")).ToBytes(), byUnicast("192.0.2.7"), nak, "", own},
		"one that renews ours, with the far address":  {packet(macB, request, has(far)).ToBytes(), byUnicast(far), nak, "", own},
		"one that chose us, and claims it":            {packet(macB, request, has(far), wants(near), chooses("10.77.0.1")).ToBytes(), byBroadcast(), ack, near, own},
		"one that renews here":                        {packet(macB, request, has(near)).ToBytes(), byUnicast(near), ack, near, near + ":68"},
		"one that rebinds here":                       {packet(macB, request, has(near)).ToBytes(), byBroadcast(), ack, near, near + ":68"},
		"one that was carried here from far":          {packet(macA, request, wants(far)).ToBytes(), byBroadcast(), nak, "", own},
		"INFORM through a router":                     {packet(macA, inform, has(far)).ToBytes(), byUnicast(far), ack, "0.0.0.0", far + ":68"},
		"INFORM here":                                 {packet(macB, inform, has(near)).ToBytes(), byBroadcast(), ack, "0.0.0.0", near + ":68"},
		"INFORM that claims the far network":          {packet(macB, inform, has(far)).ToBytes(), byBroadcast(), silence, "", ""},
		"INFORM that claims an address of nobody's":   {packet(macB, inform, has("192.0.2.7")).ToBytes(), byBroadcast(), silence, "", ""},
		"BOOTP with an address of ours":               {bootp(macB, near), byBroadcast(), silence, near, near + ":68"},
		"BOOTP that claims the far network":           {bootp(macB, far), byBroadcast(), silence, near, own},
		"BOOTP that claims to be at nobody's address": {bootp(macB, "192.0.2.7"), byUnicast("192.0.2.7"), silence, near, own},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rack := rackSubnet(fleet.Full)
			rack.BOOTP = true
			ts := newTestServer(t, rack, farSubnet())
			ts.leaseFar(macA)
			ts.lease(macB)
			got, r := ts.put(tt.in, tt.by)
			if (got == nil) != (tt.to == "") || kindOf(got) != tt.want {
				t.Fatalf("answer = %v, want %s", got, tt.want)
			}
			if got != nil && (r.to.String() != tt.to || tt.addr != "" && got.YourIPAddr.String() != tt.addr) {
				t.Errorf("it gets %s, sent to %s, want %q to %s", got.YourIPAddr, r.to, tt.addr, tt.to)
			}
		})
	}
}

// leaseFar does the exchange behind a router.
func (ts *testServer) leaseFar(mac fleet.MAC) {
	ts.t.Helper()
	got, _ := ts.put(packet(mac, discover, relayed("10.88.0.1")).ToBytes(), fromRelay("10.88.0.1"))
	addr := got.YourIPAddr.String()
	got, _ = ts.put(packet(mac, request, wants(addr), chooses("10.77.0.1"), relayed("10.88.0.1")).ToBytes(), fromRelay("10.88.0.1"))
	if kindOf(got) != ack {
		ts.t.Fatalf("answer = %v, want an ACK", got)
	}
}

// A machine of one network ends nothing on another, whatever MAC it writes.
func TestALeaseIsGivenUpOnItsOwnNetwork(t *testing.T) {
	tests := map[string]struct {
		in   *dhcpv4.DHCPv4
		by   arrival
		ends bool
	}{
		"released through a router":    {packet(macA, release, has("10.88.0.10")), byUnicast("10.88.0.10"), true},
		"declined through its relay":   {packet(macA, decline, wants("10.88.0.10"), relayed("10.88.0.1")), fromRelay("10.88.0.1"), true},
		"released by somebody here":    {packet(macA, release, has("10.88.0.10")), byBroadcast(), false},
		"released from another's":      {packet(macA, release, has("10.88.0.10")), byUnicast("10.77.0.103"), false},
		"declined by somebody here":    {packet(macA, decline, wants("10.88.0.10")), byBroadcast(), false},
		"released, for another server": {packet(macA, release, has("10.88.0.10"), chooses("10.88.0.2")), byUnicast("10.88.0.10"), false},
		"declined, for another server": {packet(macA, decline, wants("10.88.0.10"), chooses("10.88.0.2"), relayed("10.88.0.1")), fromRelay("10.88.0.1"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full), farSubnet())
			ts.leaseFar(macA)
			if got, _ := ts.put(tt.in.ToBytes(), tt.by); got != nil {
				t.Errorf("answer = %v", got)
			}
			_, held := ts.LeaseByAddr(netip.MustParseAddr("10.88.0.10"))
			if held == tt.ends {
				t.Errorf("the lease holds: %t, want %t", held, !tt.ends)
			}
		})
	}
}

// Where we are on the wire of the address ourselves, its packets come by that
// wire, and not through a router by another.
func TestWhatIsOnAnotherWireOfOursDoesNotComeThroughARouter(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full), farSubnet())
	ts.links.Put(ts.links.All()[0], links.Link{Index: testIfindex + 1, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.88.0.2/24")}})
	ts.leaseFar(macA)
	if got, _ := ts.put(packet(macA, inform, has("10.88.0.10")).ToBytes(), byUnicast("10.88.0.10")); got != nil {
		t.Errorf("answer = %v to one that is plugged in elsewhere", got)
	}
	by := byUnicast("10.88.0.10")
	by.ifindex++
	if got, _ := ts.put(packet(macA, inform, has("10.88.0.10")).ToBytes(), by); kindOf(got) != ack {
		t.Errorf("answer = %v, want an ACK: it came by its own wire", got)
	}
}

// An interface may have addresses of several networks that no link: joins.
func TestAnAddressNamesANetworkOfTheSameWire(t *testing.T) {
	second := farSubnet()
	ts := newTestServer(t, rackSubnet(fleet.Full), second)
	l := ts.links.All()[0]
	l.Prefixes = append(l.Prefixes, netip.MustParsePrefix("10.88.0.2/24"))
	ts.links.Put(l)
	got, r := ts.put(packet(macB, inform, has("10.88.0.50")).ToBytes(), byBroadcast())
	if kindOf(got) != ack || got.SubnetMask().String() != "ffffff00" || r.from.String() != "10.88.0.2" || r.to.String() != "10.88.0.50:68" {
		t.Errorf("answer = %v from %s to %s", got, r.from, r.to)
	}
}

// Where another server belongs, a client that we do not know may be its
// (RFC 2131 §4.3.2): only what is wrong for everybody is refused.
func TestBesideAnotherServerWeAreSilentToItsClients(t *testing.T) {
	tests := map[string]struct {
		in           *dhcpv4.DHCPv4
		alone, among dhcpv4.MessageType
	}{
		"a stranger renews":              {packet(macB, request, has("10.77.0.102")), nak, silence},
		"a stranger comes back":          {packet(macB, request, wants("10.77.0.102")), nak, silence},
		"a stranger with our client's":   {packet(macB, request, wants("10.77.0.100")), nak, nak},
		"our client with another's":      {packet(macA, request, wants("10.77.0.102")), nak, nak},
		"a stranger of another network":  {packet(macB, request, wants("192.168.1.5")), nak, nak},
		"our client comes back":          {packet(macA, request, wants("10.77.0.100")), ack, ack},
		"a stranger takes what we offer": {packet(macB, request, wants("10.77.0.102"), chooses("10.77.0.1")), ack, ack},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, others := range [][]netip.Addr{nil, {netip.MustParseAddr("10.77.0.9")}} {
				n, want := rackSubnet(fleet.Full), tt.alone
				if n.KnownDHCP = others; others != nil {
					want = tt.among
				}
				ts := newTestServer(t, n)
				ts.lease(macA)
				if got := ts.ask(tt.in); kindOf(got) != want {
					t.Errorf("beside %v the answer is %s, want %s", others, kindOf(got), want)
				}
			}
		})
	}
}

// A NAK has no options but these (RFC 2131 table 3, RFC 6842, RFC 3046, RFC 4578).
func TestANAKSaysWhyAndNothingElse(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	uuid := "\x00" + "0123456789abcdef"
	got := ts.ask(packet(macA, request, wants("192.168.1.5"), option(61, "\x00me"), option(97, uuid), option(82, "\x01\x01a"), firmware("PXEClient:Arch:00007", 7)))
	if kindOf(got) != nak {
		t.Fatalf("answer = %v, want a NAK", got)
	}
	for code := range got.Options {
		if !slices.Contains([]uint8{53, 54, 56, 61, 82, 97}, code) {
			t.Errorf("option %d = %q", code, got.Options[code])
		}
	}
	if string(got.Options[56]) != "the address is of another network" || string(got.Options[61]) != "\x00me" {
		t.Errorf("options = %v", got.Options)
	}
}
