package dhcp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	decline  = dhcpv4.MessageTypeDecline
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
	release  = dhcpv4.MessageTypeRelease
	inform   = dhcpv4.MessageTypeInform
	silence  = dhcpv4.MessageTypeNone
)

func kindOf(msg *dhcpv4.DHCPv4) dhcpv4.MessageType {
	if msg == nil {
		return silence
	}
	return msg.MessageType()
}

// Client A has 10.77.0.100 when each of these begins.
func TestEachPacketGetsItsAnswer(t *testing.T) {
	tests := map[string]struct {
		mode fleet.DHCPMode
		in   *dhcpv4.DHCPv4
		want dhcpv4.MessageType
		addr string
	}{
		"a stranger is offered an address":            {fleet.Full, packet(macB, discover), offer, "10.77.0.101"},
		"a client is offered what it has":             {fleet.Full, packet(macA, discover), offer, "10.77.0.100"},
		"a stranger is offered what it asks for":      {fleet.Full, packet(macB, discover, wants("10.77.0.103")), offer, "10.77.0.103"},
		"but not what another has":                    {fleet.Full, packet(macB, discover, wants("10.77.0.100")), offer, "10.77.0.101"},
		"nor what is out of range":                    {fleet.Full, packet(macB, discover, wants("10.77.0.1")), offer, "10.77.0.101"},
		"a choice of us is acknowledged":              {fleet.Full, packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1")), ack, "10.77.0.100"},
		"an offer we have forgotten is kept":          {fleet.Full, packet(macB, request, wants("10.77.0.102"), chooses("10.77.0.1")), ack, "10.77.0.102"},
		"another's address is refused":                {fleet.Full, packet(macB, request, wants("10.77.0.100"), chooses("10.77.0.1")), nak, ""},
		"an address out of range is refused":          {fleet.Full, packet(macB, request, wants("10.77.0.50"), chooses("10.77.0.1")), nak, ""},
		"our own address is refused":                  {fleet.Full, packet(macB, request, wants("10.77.0.1"), chooses("10.77.0.1")), nak, ""},
		"a choice of another server is none of ours":  {fleet.Full, packet(macB, request, wants("10.77.0.101"), chooses("10.77.0.9")), silence, ""},
		"a request for nothing":                       {fleet.Full, packet(macA, request, chooses("10.77.0.1")), silence, ""},
		"a request of nothing at all":                 {fleet.Full, packet(macA, request), silence, ""},
		"a holder renews":                             {fleet.Full, packet(macA, request, has("10.77.0.100")), ack, "10.77.0.100"},
		"another may not renew it":                    {fleet.Full, packet(macB, request, has("10.77.0.100")), nak, ""},
		"a stranger renews what we never gave":        {fleet.Full, packet(macB, request, has("10.77.0.102")), nak, ""},
		"a holder comes back":                         {fleet.Full, packet(macA, request, wants("10.77.0.100")), ack, "10.77.0.100"},
		"a holder comes back with another address":    {fleet.Full, packet(macA, request, wants("10.77.0.102")), nak, ""},
		"one comes from another network":              {fleet.Full, packet(macB, request, wants("192.168.1.5")), nak, ""},
		"a stranger comes back":                       {fleet.Full, packet(macB, request, wants("10.77.0.102")), nak, ""},
		"one with an address asks for options":        {fleet.Full, packet(macB, inform, has("10.77.0.50")), ack, "0.0.0.0"},
		"one without asks for options":                {fleet.Full, packet(macB, inform), silence, ""},
		"observe: a stranger":                         {fleet.Observe, packet(macB, discover), silence, ""},
		"observe: one from another network":           {fleet.Observe, packet(macB, request, wants("192.168.1.5")), silence, ""},
		"observe: options":                            {fleet.Observe, packet(macB, inform, has("10.77.0.50")), silence, ""},
		"no mode is observe":                          {"", packet(macB, discover), silence, ""},
		"reserved: a stranger":                        {fleet.Reserved, packet(macB, discover), silence, ""},
		"reserved: a node":                            {fleet.Reserved, packet(macA, discover), offer, "10.77.0.100"},
		"reserved: a stranger renews":                 {fleet.Reserved, packet(macB, request, has("10.77.0.102")), silence, ""},
		"reserved: a stranger from elsewhere":         {fleet.Reserved, packet(macB, request, wants("192.168.1.5")), silence, ""},
		"reserved: a node from elsewhere":             {fleet.Reserved, packet(macA, request, wants("192.168.1.5")), nak, ""},
		"proxy: an operating system":                  {fleet.Proxy, packet(macB, discover), silence, ""},
		"a BOOTP request":                             {fleet.Full, packet(macB, silence), silence, ""},
		"a forced renewal, which only servers send":   {fleet.Full, packet(macB, 9), silence, ""},
		"an OFFER in a request's clothes":             {fleet.Full, packet(macB, offer), silence, ""},
		"a relay that is ourselves":                   {fleet.Full, packet(macB, discover, relayed("10.77.0.1")), silence, ""},
		"a relay of a network that we do not know":    {fleet.Full, packet(macB, discover, relayed("10.99.0.1")), silence, ""},
		"a packet that went round and round":          {fleet.Full, packet(macB, discover, func(m *dhcpv4.DHCPv4) { m.HopCount = 17 }), silence, ""},
		"another server's answer":                     {fleet.Full, packet(macB, discover, func(m *dhcpv4.DHCPv4) { m.OpCode = 2 }), silence, ""},
		"op 0":                                        {fleet.Full, packet(macB, discover, func(m *dhcpv4.DHCPv4) { m.OpCode = 0 }), silence, ""},
		"a client of all zeros":                       {fleet.Full, packet("00:00:00:00:00:00", discover), silence, ""},
		"a client that is a group":                    {fleet.Full, packet("01:00:5e:00:00:01", discover), silence, ""},
		"a client whose address has another length":   {fleet.Full, packet(macB, discover, func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = m.ClientHWAddr[:4] }), silence, ""},
		"an unknown sort of option 82":                {fleet.Full, packet(macB, discover, option(82, "\xff")), offer, "10.77.0.101"},
		"a machine that is only discovered, full":     {fleet.Full, packet("52:54:00:00:00:0d", discover), offer, "10.77.0.101"},
		"a machine that is only discovered, reserved": {fleet.Reserved, packet("52:54:00:00:00:0d", discover), silence, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full))
			ts.nodes[macA] = fleet.Node{MAC: macA, State: fleet.Ready}
			ts.nodes["52:54:00:00:00:0d"] = fleet.Node{State: fleet.Discovered}
			if got := ts.lease(macA); got != "10.77.0.100" {
				t.Fatalf("A has %s", got)
			}
			ts.SetSubnets([]fleet.Subnet{rackSubnet(tt.mode)})
			got := ts.ask(tt.in)
			if kindOf(got) != tt.want {
				t.Fatalf("answer = %s, want %s (%s)", kindOf(got), tt.want, ts.seen.last())
			}
			if got != nil && tt.want != nak && got.YourIPAddr.String() != tt.addr {
				t.Errorf("address = %s, want %s", got.YourIPAddr, tt.addr)
			}
			if ts.Stats().Panics != 0 {
				t.Error("the packet made us panic")
			}
		})
	}
}

func TestNoACKLeavesWithoutALeaseOnDisk(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.leases.broken = errDiskFull
	if got := ts.ask(packet(macA, discover)); kindOf(got) != offer {
		t.Fatalf("DISCOVER = %v, want an offer: it needs no disk", got)
	}
	if got := ts.ask(packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1"))); got != nil {
		t.Fatalf("REQUEST = %v, want silence: the lease is not stored", got)
	}
	if st := ts.Stats(); st.Unsaved != 1 || st.ACKs != 0 {
		t.Errorf("Stats = %+v, want one unsaved lease and no ACK", st)
	}
	if _, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.100")); ok {
		t.Error("a lease that was not stored is shown")
	}
	if got := ts.ask(packet(macB, discover, wants("10.77.0.100"))); got.YourIPAddr.String() == "10.77.0.100" {
		t.Error("the address is offered to another while its client may still ask again")
	}
	ts.leases.broken = nil
	if got := ts.lease(macA); got != "10.77.0.100" {
		t.Errorf("after the disk is well A gets %s", got)
	}
}

func TestLeasesOutliveARestart(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	a, b := ts.lease(macA), ts.lease(macB)
	ts.start(rackSubnet(fleet.Full))
	for _, strange := range []string{a, b} { // strangers tell the truth, holders do not
		if got := ts.ask(packet("52:54:00:00:00:0c", discover, wants(strange))); got == nil || got.YourIPAddr.String() == strange {
			t.Errorf("a stranger is offered %v, which another holds", got)
		}
	}
	if got := ts.ask(packet(macA, request, has(a))); kindOf(got) != ack {
		t.Errorf("A may not renew %s: %v", a, got)
	}
}

func TestALeaseSaysWhatItsHolderCallsItself(t *testing.T) {
	tests := map[string]string{
		"node-7": "node-7", "Node-7": "node-7", "Node-7.example.com": "node-7", "node-7\x00": "node-7",
		"": "", "node 7": "", "node-7\x00\x1b[31m": "", "node-7.\xff": "", "<b>.example.com": "", "10.77.0.9": "",
	}
	for said, want := range tests {
		t.Run(said, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full))
			if got := ts.ask(packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1"), option(12, said))); kindOf(got) != ack {
				t.Fatalf("answer = %v, want an ACK", got)
			}
			if l := ts.leases.byAddr[netip.MustParseAddr("10.77.0.100")]; l.MAC != macA || l.Hostname != want {
				t.Errorf("on disk is %+v, want it of %q", l, want)
			}
		})
	}
}

func TestAnAddressIsGivenAnewOnlyWhenItIsFree(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	macs := []fleet.MAC{macA, macB, "52:54:00:00:00:0c", "52:54:00:00:00:0d"}
	for _, mac := range macs {
		ts.lease(mac)
		ts.clock = ts.clock.Add(time.Minute)
	}
	const late fleet.MAC = "52:54:00:00:00:0e"
	if got := ts.ask(packet(late, discover)); got != nil {
		t.Fatalf("the range is full, and yet %s is offered", got.YourIPAddr)
	}
	if ts.Stats().NoAddress != 1 {
		t.Errorf("Stats = %+v, want one without address", ts.Stats())
	}
	// B's lease is renewed, so A's and not the second-oldest is free first.
	ts.ask(packet(macB, request, has("10.77.0.101")))
	ts.clock = ts.clock.Add(6*time.Minute + time.Second)
	if got := ts.lease(late); got != "10.77.0.100" {
		t.Errorf("the late one gets %s, want the address that A let expire", got)
	}
	if got := ts.ask(packet(macA, request, has("10.77.0.100"))); kindOf(got) != nak {
		t.Errorf("A renews an address that another has by now: %v", got)
	}
}

func TestAClientKeepsItsAddressAfterItExpired(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.lease(macB)
	addr := ts.lease(macA)
	ts.clock = ts.clock.Add(24 * time.Hour)
	if got := ts.lease(macA); got != addr {
		t.Errorf("A gets %s, had %s", got, addr)
	}
}

func TestOnlyTheHolderReleasesOrDeclines(t *testing.T) {
	tests := map[string]struct {
		in   *dhcpv4.DHCPv4
		free bool
	}{
		"the holder releases": {packet(macA, release, has("10.77.0.100")), true},
		"another releases":    {packet(macB, release, has("10.77.0.100")), false},
		"the holder declines": {packet(macA, decline, wants("10.77.0.100")), false},
		"another declines":    {packet(macB, decline, wants("10.77.0.100")), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Ranges[0].Last = n.Ranges[0].First // one address
			ts := newTestServer(t, n)
			ts.lease(macA)
			if got := ts.ask(tt.in); got != nil {
				t.Errorf("answer = %v, want silence", got)
			}
			got := ts.ask(packet("52:54:00:00:00:0c", discover))
			if (got != nil) != tt.free {
				t.Errorf("a stranger is offered %v, free is %t", got, tt.free)
			}
		})
	}
}

func TestADeclinedAddressRestsForTenMinutes(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.Ranges[0].Last = n.Ranges[0].First
	ts := newTestServer(t, n)
	ts.lease(macA)
	ts.ask(packet(macA, decline, wants("10.77.0.100")))
	for _, who := range []fleet.MAC{macA, macB} {
		if got := ts.ask(packet(who, discover)); got != nil {
			t.Errorf("%s is offered a declined address", who)
		}
	}
	ts.start(n) // a restart does not forget it
	ts.clock = ts.clock.Add(10*time.Minute - time.Second)
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Error("the address is offered too early")
	}
	ts.clock = ts.clock.Add(2 * time.Second)
	if got := ts.ask(packet(macB, discover)); kindOf(got) != offer {
		t.Error("the address is never offered again")
	}
}

func TestRelayedClientsGetAddressesOfTheirNetwork(t *testing.T) {
	far := fleet.Subnet{
		Name: "far", CIDR: netip.MustParsePrefix("10.88.0.0/24"), Mode: fleet.Full,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.88.0.10"), Last: netip.MustParseAddr("10.88.0.20")}},
		Relays: []netip.Addr{netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("192.0.2.1")},
	}
	direct := arrival{ifindex: testIfindex, from: netip.MustParseAddrPort("10.88.0.1:67"), to: netip.MustParseAddr("10.77.0.1")}
	tests := map[string]struct {
		in     *dhcpv4.DHCPv4
		addr   string
		to     string
		option string
	}{
		"by the relay's address": {
			packet(macA, discover, relayed("10.88.0.1"), option(82, "\x01\x04port")), "10.88.0.10", "10.88.0.1:67", "\x01\x04port",
		},
		"by the relay's link selection": {
			packet(macA, discover, relayed("192.0.2.1"), option(82, "\x05\x04\x0a\x58\x00\x01")), "10.88.0.10", "192.0.2.1:67", "\x05\x04\x0a\x58\x00\x01",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full), far)
			got, r := ts.put(tt.in.ToBytes(), direct)
			if kindOf(got) != offer || got.YourIPAddr.String() != tt.addr || r.to.String() != tt.to {
				t.Fatalf("answer = %v to %s, want an offer of %s to %s", got, r.to, tt.addr, tt.to)
			}
			if string(got.Options[82]) != tt.option || !got.GatewayIPAddr.Equal(tt.in.GatewayIPAddr) {
				t.Errorf("relay information %q, giaddr %s: not echoed", got.Options[82], got.GatewayIPAddr)
			}
			if got.ServerIdentifier().String() != "10.77.0.1" {
				t.Errorf("server = %s", got.ServerIdentifier())
			}
			bad, _ := ts.put(packet(macB, request, wants("10.77.0.100"), relayed("10.88.0.1")).ToBytes(), direct)
			if kindOf(bad) != nak || bad.Flags&flagBroadcast == 0 {
				t.Errorf("answer = %v, want a NAK that the relay broadcasts", bad)
			}
		})
	}
}

func TestAnswersGoWhereTheClientHears(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	_, r := ts.put(packet(macA, discover).ToBytes(), byBroadcast())
	if r.to.String() != "255.255.255.255:68" || r.ifindex != testIfindex || r.from.String() != "10.77.0.1" {
		t.Errorf("an offer goes to %s, interface %d, from %s", r.to, r.ifindex, r.from)
	}
	ts.lease(macA)
	_, r = ts.put(packet(macA, request, has("10.77.0.100")).ToBytes(), byBroadcast())
	if r.to.String() != "10.77.0.100:68" || r.ifindex != 0 {
		t.Errorf("a renewal goes to %s, interface %d", r.to, r.ifindex)
	}
	_, r = ts.put(packet(macB, request, has("10.77.0.100")).ToBytes(), byBroadcast())
	if r.to.String() != "255.255.255.255:68" {
		t.Errorf("a NAK goes to %s", r.to)
	}
}

// An offer to an address that the client only says it has would hit whoever
// has it.
func TestAnOfferGoesNowhereThatTheClientSays(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full), farSubnet())
	for _, says := range []string{"192.0.2.1", "10.88.0.7"} {
		got, r := ts.put(packet(macA, discover, has(says)).ToBytes(), byBroadcast())
		if kindOf(got) != offer || r.to.String() != "255.255.255.255:68" || r.ifindex != testIfindex || got.YourIPAddr.String() != "10.77.0.100" {
			t.Errorf("one that says it has %s is answered by %v to %s", says, got, r.to)
		}
	}
}

func TestAnAnswerFitsTheClient(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.Domain = strings.Repeat("very-long-label.", 12) + "example"
	for i := range 8 {
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(200 + i)})
		n.DNS, n.NTP = append(n.DNS, a), append(n.NTP, a)
	}
	tests := map[string]struct {
		size  string
		relay string
		limit int
		want  dhcpv4.MessageType
	}{
		"no limit named":        {"", "", 548, offer},
		"a limit of 576":        {"\x02\x40", "", 548, offer},
		"a limit of 0":          {"\x00\x00", "", 548, offer},
		"a frame":               {"\x05\xc0", "", 1444, offer},
		"an absurd limit":       {"\xff\xff", "", 1472, offer},
		"a huge option 82":      {"", strings.Repeat("\x01\x16abcdefghijklmnopqrstuv", 10), 548, offer},
		"an option 82 too huge": {"", strings.Repeat("\x01\x16abcdefghijklmnopqrstuv", 20), 548, silence},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, n)
			in := packet(macA, discover, firmware("PXEClient:Arch:00007", 7), option(61, "\x01abcdef"))
			if tt.size != "" {
				option(57, tt.size)(in)
			}
			if tt.relay != "" {
				option(82, tt.relay)(in)
			}
			got, r := ts.put(in.ToBytes(), byBroadcast())
			if kindOf(got) != tt.want {
				t.Fatalf("answer = %s, want %s", kindOf(got), tt.want)
			}
			if got == nil {
				return
			}
			if len(r.packet) > tt.limit || len(r.packet) < 300 {
				t.Errorf("the answer has %d bytes, want 300 to %d", len(r.packet), tt.limit)
			}
			for _, code := range []uint8{1, 51, 53, 54, 61, 67} {
				if _, ok := got.Options[code]; !ok {
					t.Errorf("option %d is missing", code)
				}
			}
			if string(got.Options[82]) != tt.relay {
				t.Error("option 82 is not whole")
			}
		})
	}
}

func TestOtherServersAreNoticed(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Observe))
	for range 3 {
		ts.ask(packet(macA, request, wants("10.77.0.77"), chooses("10.77.0.9")))
	}
	got := ts.ForeignServers()
	if len(got) != 1 || got[0].Addr.String() != "10.77.0.9" || got[0].Replies != 3 || got[0].Subnet != "rack" {
		t.Errorf("ForeignServers = %+v, want 10.77.0.9, three times", got)
	}
	for i := range 1000 {
		ts.ask(packet(macA, request, wants("10.77.0.77"), chooses(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}).String())))
	}
	if n := len(ts.ForeignServers()); n > 64 {
		t.Errorf("%d foreign servers are kept", n)
	}
}

func TestAPanicEndsWithItsPacket(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.o.Nodes = panickingNodes{}
	if got := ts.ask(packet(macA, discover)); got != nil {
		t.Errorf("answer = %v", got)
	}
	ts.o.Nodes = ts.nodes
	if got := ts.ask(packet(macA, discover)); kindOf(got) != offer || ts.Stats().Panics != 1 {
		t.Errorf("answer = %v, %+v, want an offer and one panic", got, ts.Stats())
	}
}

type panickingNodes struct{}

func (panickingNodes) NodeByMAC(fleet.MAC) (fleet.Node, bool) { panic("no such luck") }

func TestLeaseByAddrKnowsWhoHasAnAddressNow(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	addr := netip.MustParseAddr(ts.lease(macA))
	if l, ok := ts.LeaseByAddr(addr); !ok || l.MAC != macA {
		t.Errorf("LeaseByAddr = %+v, %t, want A's", l, ok)
	}
	if _, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.101")); ok {
		t.Error("an address that nobody has has a lease")
	}
	ts.clock = ts.clock.Add(time.Hour)
	if _, ok := ts.LeaseByAddr(addr); ok {
		t.Error("an expired lease is shown")
	}
}

func TestAReservedNodeGetsTheAddressThatItsRecordNames(t *testing.T) {
	n := rackSubnet(fleet.Reserved)
	n.Ranges = nil
	ts := newTestServer(t, n)
	ts.nodes[macA] = fleet.Node{MAC: macA, State: fleet.Active, Addr: netip.MustParseAddr("10.77.0.44")}
	ts.nodes[macB] = fleet.Node{MAC: macB, State: fleet.Active, Addr: netip.MustParseAddr("10.77.0.44")}
	if got := ts.lease(macA); got != "10.77.0.44" {
		t.Errorf("A gets %s, want 10.77.0.44", got)
	}
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Errorf("B is offered %s, which A has", got.YourIPAddr)
	}
	if got := ts.lease(macA); got != "10.77.0.44" {
		t.Errorf("A gets %s the second time", got)
	}
}

func TestALeaseOnItsWayToASlowDiskIsNobodyElses(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.Ranges[0].Last = n.Ranges[0].First
	ts := newTestServer(t, n)
	ts.ask(packet(macA, discover))
	r, ok := ts.handle(packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1")).ToBytes(), byBroadcast())
	if !ok || r.lease.State != fleet.LeaseBound {
		t.Fatalf("REQUEST = %+v, want a lease to store", r)
	}
	ts.clock = ts.clock.Add(time.Minute) // the offer is long over
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Errorf("B is offered %s, which is being stored for A", got.YourIPAddr)
	}
	ts.SetSubnets([]fleet.Subnet{n})
	if got := ts.ask(packet(macB, request, wants("10.77.0.100"), chooses("10.77.0.1"))); kindOf(got) == ack {
		t.Error("B gets what is being stored for A")
	}
	ts.commit.Commit(t.Context(), []reply{r})
	if l, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.100")); !ok || l.MAC != macA || len(ts.sent) != 1 {
		t.Errorf("LeaseByAddr = %+v, %t, %d packets sent, want A's lease and its ACK", l, ok, len(ts.sent))
	}
}

// Firmware, iPXE and Linux name themselves differently; they are one machine.
func TestAMachineKeepsItsAddressThroughItsPrograms(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	addr := ts.lease(macA)
	for _, id := range []string{"\x01\x52\x54\x00\x00\x00\x0a", "\xff\x00\x00\x00\x01\x00\x02duid"} {
		got := ts.ask(packet(macA, discover, option(61, id)))
		if got == nil || got.YourIPAddr.String() != addr || string(got.Options[61]) != id {
			t.Errorf("as %q it is offered %v, want %s and its identifier", id, got, addr)
		}
	}
	got := ts.ask(packet(macB, discover, option(61, "\x01\x52\x54\x00\x00\x00\x0a")))
	if got == nil || got.YourIPAddr.String() == addr {
		t.Errorf("another machine with the same identifier is offered %v", got)
	}
}
