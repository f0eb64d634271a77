package dhcp

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

func TestAClassIsWhoMatchesAllOfIt(t *testing.T) {
	circuit, remote := hex.EncodeToString([]byte("ge-0/0/")), hex.EncodeToString([]byte("leaf-1"))
	tests := map[string]struct {
		match fleet.ClassMatch
		yes   []func(*dhcpv4.DHCPv4)
		no    []func(*dhcpv4.DHCPv4)
	}{
		"start of the vendor class":    {fleet.ClassMatch{Vendor: "Cisco "}, set(option(60, "Cisco AP")), set(option(60, "cisco AP"))},
		"user class, bare":             {fleet.ClassMatch{User: "gpxe"}, set(option(77, "gpxe")), set(option(77, "gpxe2"))},
		"user class, in a list":        {fleet.ClassMatch{User: "gpxe"}, set(option(77, "\x01a\x04gpxe")), set(option(77, "\x09gpxe"))},
		"architecture":                 {fleet.ClassMatch{Arch: []int{0, 9}}, set(option(93, "\x00\x09")), set(option(93, "\x00\x07"))},
		"no architecture is none":      {fleet.ClassMatch{Arch: []int{0}}, set(option(93, "\x00\x00")), nil},
		"MAC prefix":                   {fleet.ClassMatch{MACPrefix: "52:54:00"}, nil, set(hasMAC("02:00:00:00:00:01"))},
		"circuit":                      {fleet.ClassMatch{CircuitID: circuit}, set(relayed("10.77.0.9"), option(82, "\x01\x08ge-0/0/7")), set(relayed("10.77.0.9"), option(82, "\x01\x08xe-0/0/7"))},
		"a circuit without a relay":    {fleet.ClassMatch{CircuitID: circuit}, set(relayed("10.77.0.9"), option(82, "\x01\x08ge-0/0/7")), set(option(82, "\x01\x08ge-0/0/7"))},
		"remote end":                   {fleet.ClassMatch{RemoteID: remote}, set(relayed("10.77.0.9"), option(82, "\x02\x07leaf-12")), set(relayed("10.77.0.9"), option(82, "\x01\x07leaf-12\x02\x06leaf-2"))},
		"a remote end without a relay": {fleet.ClassMatch{RemoteID: remote}, set(relayed("10.77.0.9"), option(82, "\x02\x07leaf-12")), set(option(82, "\x02\x07leaf-12"))},
		"circuit and remote end":       {fleet.ClassMatch{CircuitID: circuit, RemoteID: remote}, set(relayed("10.77.0.9"), option(82, "\x01\x08ge-0/0/7\x02\x06leaf-1")), set(relayed("10.77.0.9"), option(82, "\x01\x08ge-0/0/7"))},
		"two of two":                   {fleet.ClassMatch{Vendor: "Cisco", MACPrefix: "52:54"}, set(option(60, "Cisco")), set(option(60, "Cisco"), hasMAC("02:00:00:00:00:01"))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Classes = []fleet.DHCPClass{{Name: "them", Match: tt.match, Lease: 1200, Options: []fleet.DHCPOption{{Code: 150, Data: []byte("x")}}}}
			n.UnknownLease = 1200
			n.Relays = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
			ts := newTestServer(t, n)
			for want, changes := range map[bool][]func(*dhcpv4.DHCPv4){true: tt.yes, false: tt.no} {
				got := ts.ask(packet(macA, discover, changes...))
				if is := string(got.Options[150]) == "x"; is != want {
					t.Errorf("a client of the class: %t, want %t", is, want)
				}
				if is := got.IPAddressLeaseTime(0) == 20*time.Minute; is != want {
					t.Errorf("lease = %s, of the class: %t", got.IPAddressLeaseTime(0), want)
				}
			}
		})
	}
}

func set(changes ...func(*dhcpv4.DHCPv4)) []func(*dhcpv4.DHCPv4) { return changes }

func hasMAC(mac fleet.MAC) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = mac.Hardware() }
}

func TestAClassHasItsRangesToItself(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.Classes = []fleet.DHCPClass{
		{Name: "phones", Match: fleet.ClassMatch{Vendor: "phone"}, Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.77.0.200"), Last: netip.MustParseAddr("10.77.0.200")}}},
		{Name: "others", Match: fleet.ClassMatch{Vendor: "other"}},
	}
	ts := newTestServer(t, n)
	if got := ts.ask(packet(macB, discover, wants("10.77.0.200"))); got.YourIPAddr.String() != "10.77.0.100" {
		t.Errorf("no phone is offered %s", got.YourIPAddr)
	}
	if got := ts.ask(packet("52:54:00:00:00:0c", discover, option(60, "other"), wants("10.77.0.200"))); got.YourIPAddr.String() != "10.77.0.101" {
		t.Errorf("a class without ranges is offered %s", got.YourIPAddr)
	}
	if got := ts.ask(packet(macA, discover, option(60, "phone"), wants("10.77.0.101"))); got.YourIPAddr.String() != "10.77.0.200" {
		t.Errorf("a phone is offered %s", got.YourIPAddr)
	}
	if got := ts.ask(packet("52:54:00:00:00:0d", discover, option(60, "phone"))); got != nil {
		t.Errorf("answer = %v, and the class has one address", got)
	}
	if ts.alarms.detail(fleet.CodePoolExhausted, "subnet rack, class phones") == "" {
		t.Error("no alarm for the class")
	}
}

func TestAClassSaysWhatItsClientsBoot(t *testing.T) {
	boot := fleet.DHCPClass{Name: "old", Match: fleet.ClassMatch{Vendor: "PXEClient"}, BootFile: "pxelinux.0", BootServer: netip.MustParseAddr("10.77.0.9")}
	ipxe := fleet.DHCPClass{Name: "ours", Match: fleet.ClassMatch{User: "iPXE"}, BootFile: "http://10.77.0.9/menu.ipxe"}
	phone := fleet.DHCPClass{Name: "phone", Match: fleet.ClassMatch{Vendor: "phone"}, BootFile: "phone.cfg"}
	rom := firmware("PXEClient:Arch:00000:UNDI:002001", 0)
	tests := map[string]struct {
		class  fleet.DHCPClass
		mode   fleet.DHCPMode
		state  fleet.State
		in     []func(*dhcpv4.DHCPv4)
		file   string
		server string
	}{
		"firmware":                         {boot, fleet.Full, "", set(rom), "pxelinux.0", "10.77.0.9"},
		"firmware, beside another server":  {boot, fleet.Proxy, "", set(rom), "pxelinux.0", "10.77.0.9"},
		"a node that has its system":       {boot, fleet.Full, fleet.Active, set(rom), "", "0.0.0.0"},
		"a node in quarantine":             {boot, fleet.Full, fleet.Quarantined, set(rom), "", "0.0.0.0"},
		"iPXE goes on with our script":     {boot, fleet.Full, "", set(rom, option(77, "iPXE")), "script", "10.77.0.1"},
		"iPXE where the class names it":    {ipxe, fleet.Full, "", set(rom, option(77, "iPXE")), "http://10.77.0.9/menu.ipxe", "10.77.0.1"},
		"iPXE of a node that has a system": {ipxe, fleet.Full, fleet.Active, set(rom, option(77, "iPXE")), "script", "10.77.0.1"},
		"what is no firmware":              {phone, fleet.Full, "", set(option(60, "phone 7")), "phone.cfg", "10.77.0.1"},
		"no firmware, beside another":      {phone, fleet.Proxy, "", set(option(60, "phone 7")), "silence", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(tt.mode)
			n.Classes = []fleet.DHCPClass{tt.class}
			ts := newTestServer(t, n)
			ts.nodes[macA] = fleet.Node{MAC: macA, State: tt.state}
			got := ts.ask(packet(macA, discover, tt.in...))
			if tt.file == "silence" {
				if got != nil {
					t.Errorf("answer = %v", got)
				}
				return
			}
			want := tt.file
			if want == "script" && len(got.BootFileName) > 30 {
				want = got.BootFileName
			}
			if got.BootFileName != want || got.ServerIPAddr.String() != tt.server {
				t.Errorf("boot file %q from %s, want %q from %s", got.BootFileName, got.ServerIPAddr, want, tt.server)
			}
		})
	}
}

func TestWhatIsReservedIsForOneClient(t *testing.T) {
	n := rackSubnet(fleet.Full)
	at := func(a string) netip.Addr { return netip.MustParseAddr(a) }
	n.Relays = []netip.Addr{at("10.77.0.9")}
	n.Reservations = []fleet.Reservation{
		{MAC: macA, Addr: at("10.77.0.20"), Hostname: "printer", Options: []fleet.DHCPOption{{Code: 3, Data: []byte{10, 77, 0, 254}}}},
		{ClientID: "00616263", Addr: at("10.77.0.101")}, // inside of the range
		{CircuitID: hex.EncodeToString([]byte("ge-1")), Addr: at("10.77.0.22")},
		{CircuitID: hex.EncodeToString([]byte("ge-1")), RemoteID: hex.EncodeToString([]byte("leaf")), Addr: at("10.77.0.23")},
		{RemoteID: hex.EncodeToString([]byte("leaf")), Addr: at("10.77.0.24")},
		{MAC: "52:54:00:00:00:0e", Hostname: "named"},
	}
	by := relayed("10.77.0.9")
	tests := map[string]struct {
		mac     fleet.MAC
		changes []func(*dhcpv4.DHCPv4)
		addr    string
		host    string
	}{
		"by MAC":                              {macA, nil, "10.77.0.20", "printer"},
		"by MAC, whatever it asks for":        {macA, set(wants("10.77.0.100")), "10.77.0.20", "printer"},
		"by client identifier":                {macB, set(option(61, "\x00abc")), "10.77.0.101", ""},
		"by port":                             {macB, set(by, option(82, "\x01\x04ge-1")), "10.77.0.22", ""},
		"by port and switch":                  {macB, set(by, option(82, "\x01\x04ge-1\x02\x04leaf")), "10.77.0.23", ""},
		"by port of another switch":           {macB, set(by, option(82, "\x01\x04ge-1\x02\x04lea2")), "10.77.0.22", ""},
		"by switch":                           {macB, set(by, option(82, "\x01\x04ge-9\x02\x04leaf")), "10.77.0.24", ""},
		"a port that no relay tells of":       {macB, set(option(82, "\x01\x04ge-1")), "10.77.0.100", ""},
		"a hostname alone":                    {"52:54:00:00:00:0e", nil, "10.77.0.100", "named"},
		"a stranger gets nothing of it":       {macB, set(wants("10.77.0.101")), "10.77.0.100", ""},
		"a stranger who asks for it outright": {macB, set(wants("10.77.0.20")), "10.77.0.100", ""},
	}
	for name, tt := range tests {
		for _, mode := range []fleet.DHCPMode{fleet.Full, fleet.Reserved} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				n.Mode = mode
				ts := newTestServer(t, n)
				got := ts.ask(packet(tt.mac, discover, tt.changes...))
				if mode == fleet.Reserved && tt.addr == "10.77.0.100" && tt.host == "" {
					if got != nil {
						t.Errorf("answer = %v to a stranger", got)
					}
					return
				}
				if kindOf(got) != offer || got.YourIPAddr.String() != tt.addr || string(got.Options[12]) != tt.host {
					t.Fatalf("answer = %v, want an offer of %s to %q", got, tt.addr, tt.host)
				}
				more := append(set(wants(tt.addr), chooses("10.77.0.1")), tt.changes...)
				more = append(more, wants(tt.addr))
				if got := ts.ask(packet(tt.mac, request, more...)); kindOf(got) != ack || got.YourIPAddr.String() != tt.addr {
					t.Errorf("answer = %v, want an ACK of %s", got, tt.addr)
				}
			})
		}
	}
}

func TestAReservedAddressIsTakenFromNobody(t *testing.T) {
	n := rackSubnet(fleet.Full)
	ts := newTestServer(t, n)
	held := ts.lease(macB)
	n.Reservations = []fleet.Reservation{{MAC: macA, Addr: netip.MustParseAddr(held)}}
	ts.SetSubnets([]fleet.Subnet{n})
	if got := ts.ask(packet(macA, discover)); got != nil {
		t.Errorf("answer = %v, and B still has the address", got)
	}
	if st := ts.Stats(); st.ReservedHeld != 1 || ts.alarms.detail(fleet.CodeReservedHeld, held+" on subnet rack") == "" {
		t.Errorf("Stats = %+v, want it counted and an alarm", st)
	}
	if got := ts.ask(packet(macB, request, has(held))); kindOf(got) != nak {
		t.Errorf("answer = %v, want a NAK: it is another's now", got)
	}
	ts.clock = ts.clock.Add(11 * time.Minute)
	if got := ts.lease(macA); got != held {
		t.Errorf("A has %s, want %s", got, held)
	}
}

func TestExcludedAddressesAreNotGiven(t *testing.T) {
	at := func(a string) netip.Addr { return netip.MustParseAddr(a) }
	n := rackSubnet(fleet.Full)
	n.Ranges = append([]fleet.AddrRange{{First: at("10.77.0.110"), Last: at("10.77.0.112")}}, n.Ranges...)
	n.Exclude = []fleet.AddrRange{{First: at("10.77.0.90"), Last: at("10.77.0.101")}, {First: at("10.77.0.103"), Last: at("10.77.0.110")}, {First: at("10.77.0.112"), Last: at("10.77.0.112")}}
	ts := newTestServer(t, n)
	if got := ts.ask(packet(macA, discover, wants("10.77.0.101"))); got.YourIPAddr.String() != "10.77.0.102" {
		t.Errorf("offered %s", got.YourIPAddr)
	}
	if got := ts.ask(packet(macB, discover)); got.YourIPAddr.String() != "10.77.0.111" {
		t.Errorf("offered %s", got.YourIPAddr)
	}
	if got := ts.ask(packet("52:54:00:00:00:0c", discover)); got != nil {
		t.Errorf("answer = %v, and all others are excluded", got)
	}
	if use := ts.Subnets(); use[0].Size != 2 {
		t.Errorf("Subnets = %+v, want 2 addresses", use)
	}
}

// What is reserved, excluded or somebody's is left out of each range.
func TestTheAddressesOfAllRangesAreGiven(t *testing.T) {
	at := netip.MustParseAddr
	n := rackSubnet(fleet.Full)
	n.Ranges = []fleet.AddrRange{{First: at("10.77.0.150"), Last: at("10.77.0.151")}, {First: at("10.77.0.20"), Last: at("10.77.0.23")}, {First: at("10.77.0.254"), Last: at("10.77.0.255")}}
	n.Exclude = []fleet.AddrRange{{First: at("10.77.0.21"), Last: at("10.77.0.21")}}
	n.Reservations = []fleet.Reservation{{MAC: "52:54:00:00:00:77", Addr: at("10.77.0.22")}}
	n.UnknownShare = 100
	ts := newTestServer(t, n)
	given := map[string]bool{}
	for i := range 5 {
		mac := macOf(hwaddr{2, 0, 0, 0, 0, byte(i)})
		got := ts.ask(packet(mac, discover))
		if got == nil {
			t.Fatalf("nothing is left for client %d, given are %v", i, given)
		}
		addr := got.YourIPAddr.String()
		if ack := ts.ask(packet(mac, request, wants(addr), chooses("10.77.0.1"))); kindOf(ack) != dhcpv4.MessageTypeAck {
			t.Fatalf("client %d was offered %s and got %v", i, addr, ack)
		}
		given[addr] = true
	}
	for _, want := range []string{"10.77.0.150", "10.77.0.151", "10.77.0.20", "10.77.0.23", "10.77.0.254"} {
		if !given[want] {
			t.Errorf("%s was given to nobody: %v", want, given)
		}
	}
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Errorf("the sixth is offered %s", got.YourIPAddr)
	}
}
