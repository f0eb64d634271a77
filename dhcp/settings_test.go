package dhcp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/rackstage/provision/fleet"
)

// richSubnet says everything that a subnet can say.
func richSubnet() fleet.Subnet {
	n := rackSubnet(fleet.Full)
	n.NTP = []netip.Addr{netip.MustParseAddr("10.77.0.4")}
	n.MTU = 9000
	n.Search = []string{"rack.example.org", "example.org", "other.net"}
	n.Routes = []fleet.Route{
		{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("10.77.0.5")},
		{To: netip.MustParsePrefix("192.168.7.128/25"), Via: netip.MustParseAddr("10.77.0.6")},
	}
	n.MSRoutes = true
	n.Options = []fleet.DHCPOption{{Code: 150, Data: []byte{10, 77, 0, 7}}, {Code: 43, Data: []byte("\x01\x01x")}, {Code: 60, Data: []byte("vendor")}}
	return n
}

func TestOptionsAreWhatTheirRFCsSay(t *testing.T) {
	ts := newTestServer(t, richSubnet())
	got := ts.ask(packet(macA, discover, option(55, "\x01\x03\x06\x0f\x1a\x2a\x2b\x3c\x77\x79\x96\xf9")))
	routes := "\x08\x0a" + "\x0a\x4d\x00\x05" + "\x19\xc0\xa8\x07\x80" + "\x0a\x4d\x00\x06" + "\x00" + "\x0a\x4d\x00\x01"
	want := map[uint8]string{
		1: "\xff\xff\xff\x00", 3: "\x0a\x4d\x00\x01", 6: "\x0a\x4d\x00\x01", 15: "rack.example", 42: "\x0a\x4d\x00\x04",
		26:  "\x23\x28",
		119: "\x04rack\x07example\x03org\x00" + "\xc0\x05" + "\x05other\x03net\x00",
		121: routes, 249: routes, 150: "\x0a\x4d\x00\x07", 43: "\x01\x01x", 60: "vendor",
	}
	for code, value := range want {
		if string(got.Options[code]) != value {
			t.Errorf("option %d = %x, want %x", code, got.Options[code], value)
		}
	}
	if len(got.ClasslessStaticRoute()) != 3 {
		t.Errorf("another codec reads %v as routes", got.ClasslessStaticRoute())
	}
	if labels := got.DomainSearch(); labels == nil || !slices.Equal(labels.Labels, richSubnet().Search) {
		t.Errorf("another codec reads %v as domains", labels)
	}
}

func TestNobodyGetsRoutesAndListsWithoutAsking(t *testing.T) {
	tests := map[string]struct {
		asks string
		with []uint8
		none []uint8
	}{
		"who asks for little":         {"\x01", []uint8{1, 3, 6, 15, 42}, []uint8{26, 119, 121, 249, 150, 43, 60}},
		"who asks for routes":         {"\x01\x79", []uint8{121}, []uint8{249, 119}},
		"who asks for Microsoft's":    {"\x01\xf9", []uint8{249}, []uint8{121, 119}},
		"who has no list at all":      {"", []uint8{26, 119, 121, 249, 150, 43, 60}, nil},
		"who asks for a vendor's own": {"\x2b\x3c", []uint8{43, 60}, []uint8{150}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, richSubnet())
			in := packet(macA, discover)
			delete(in.Options, 55)
			if tt.asks != "" {
				option(55, tt.asks)(in)
			}
			got := ts.ask(in)
			for _, code := range tt.with {
				if got.Options[code] == nil {
					t.Errorf("option %d is missing", code)
				}
			}
			for _, code := range tt.none {
				if got.Options[code] != nil {
					t.Errorf("option %d = %x, and nobody asked for it", code, got.Options[code])
				}
			}
		})
	}
}

func TestFirmwareGetsNobodyElsesVendorOptions(t *testing.T) {
	n := richSubnet()
	n.Classes = []fleet.DHCPClass{{Name: "firmware", Match: fleet.ClassMatch{Arch: []int{6}}, Options: []fleet.DHCPOption{{Code: 43, Data: []byte("for it")}}}}
	ts := newTestServer(t, n)
	got := ts.ask(packet(macA, discover, firmware("PXEClient:Arch:00007", 7)))
	if got.Options[43] != nil || string(got.Options[60]) == "vendor" {
		t.Errorf("options 43 and 60 = %x, %q", got.Options[43], got.Options[60])
	}
	got = ts.ask(packet(macA, discover, firmware("PXEClient:Arch:00006", 6)))
	if string(got.Options[43]) != "for it" {
		t.Errorf("option 43 = %q, want what the class says", got.Options[43])
	}
}

func TestTheNearestWordCounts(t *testing.T) {
	say := func(who string) []fleet.DHCPOption { return []fleet.DHCPOption{{Code: 150, Data: []byte(who)}} }
	tests := map[string]struct {
		class, pool, node bool
		want              string
	}{
		"the subnet's":                      {false, false, false, "subnet"},
		"the class's over the subnet's":     {true, false, false, "class"},
		"the pool's over the class's":       {true, true, false, "pool"},
		"the node's over the pool's":        {true, true, true, "node"},
		"the node's without any other":      {false, false, true, "node"},
		"the pool's, where it has no class": {false, true, false, "pool"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Options = say("subnet")
			if tt.class {
				n.Classes = []fleet.DHCPClass{{Name: "all", Match: fleet.ClassMatch{MACPrefix: "52"}, Options: say("class")}}
			}
			if tt.node {
				n.Reservations = []fleet.Reservation{{MAC: macA, Options: say("node")}}
			}
			ts := newTestServer(t, n)
			if tt.pool {
				ts.SetPools([]fleet.Pool{{Name: "web", Options: say("pool")}})
			}
			ts.nodes[macA] = fleet.Node{MAC: macA, State: fleet.Ready, Pool: "web", Name: "web-01"}
			got := ts.ask(packet(macA, discover))
			if string(got.Options[150]) != tt.want || string(got.Options[12]) != "web-01" {
				t.Errorf("option 150 = %q, host %q, want %q, web-01", got.Options[150], got.Options[12], tt.want)
			}
		})
	}
}

// A client takes 548 bytes; what it asked for first is the last to go.
func TestWhatDoesNotFitGoesIntoOtherFieldsOrAway(t *testing.T) {
	n := rackSubnet(fleet.Full)
	for _, code := range []uint8{150, 151, 152, 153} {
		n.Options = append(n.Options, fleet.DHCPOption{Code: code, Data: slices.Repeat([]byte{code}, 100)})
	}
	tests := map[string]struct {
		asks string
		boot bool
		want []uint8
		gone []uint8
	}{
		"all of it, in the fields of names":             {"\x96\x97\x98", false, []uint8{150, 151, 152, 52}, nil},
		"a boot file leaves one field less":             {"\x96\x97\x98", true, []uint8{150, 151, 67}, []uint8{152}},
		"the last that it asked for is the first to go": {"\x97\x98\x99\x96", true, []uint8{151, 152}, []uint8{150}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, n)
			in := packet(macA, discover, option(55, tt.asks), option(61, "\x01abcdef"))
			if tt.boot {
				firmware("PXEClient:Arch:00007", 7)(in)
			}
			got, r := ts.put(in.ToBytes(), byBroadcast())
			if kindOf(got) != offer || len(r.packet) > 548 {
				t.Fatalf("answer = %v, %d bytes", got, len(r.packet))
			}
			var own message
			if err := own.parse(r.packet); err != nil {
				t.Fatal(err)
			}
			for _, code := range append(tt.want, 1, 51, 53, 54, 61) {
				if own.option(code) == nil {
					t.Errorf("option %d is missing", code)
				}
			}
			for _, code := range tt.gone {
				if own.option(code) != nil {
					t.Errorf("option %d is there", code)
				}
			}
			for _, code := range []uint8{150, 151, 152} {
				if v := own.option(code); v != nil && len(v) != 100 {
					t.Errorf("option %d has %d bytes", code, len(v))
				}
			}
			if tt.boot && got.BootFileName != "snponly.efi" {
				t.Errorf("boot file = %q", got.BootFileName)
			}
		})
	}
}

func FuzzSearchListsAreReadAsTheyWereWritten(f *testing.F) {
	f.Add("rack.example.org example.org other.net rack.example.org")
	f.Add("a a.b b.a a.b.a")
	f.Add("..x. . y")
	f.Fuzz(func(t *testing.T, text string) {
		domains := strings.Fields(text)
		var want []string
		for _, d := range domains {
			if !validLabels(d) || len(d) > 200 {
				return
			}
			want = append(want, strings.ToLower(d))
		}
		b := searchList(domains)
		if len(b) > 4000 || len(b) == 0 {
			return
		}
		labels, err := rfc1035label.FromBytes(b)
		if err != nil {
			t.Fatalf("%x cannot be read: %v", b, err)
		}
		if diff := cmp.Diff(want, labels.Labels); diff != "" {
			t.Errorf("%x (-want +got):\n%s", b, diff)
		}
	})
}

func validLabels(d string) bool {
	for label := range strings.SplitSeq(strings.ToLower(d), ".") {
		if !fleet.ValidName(label) {
			return false
		}
	}
	return true
}
