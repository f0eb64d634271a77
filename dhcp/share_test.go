package dhcp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

func strangerMAC(i int) fleet.MAC {
	return fleet.MAC(fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255))
}

// bigSubnet has two hundred addresses, of which strangers may have half.
func bigSubnet() fleet.Subnet {
	n := rackSubnet(fleet.Full)
	n.Ranges[0] = fleet.AddrRange{First: netip.MustParseAddr("10.77.0.11"), Last: netip.MustParseAddr("10.77.0.210")}
	n.UnknownShare, n.UnknownLease = 0, 0
	return n
}

func TestAHundredThousandMACsTakeNothingFromNodes(t *testing.T) {
	ts := newTestServer(t, bigSubnet())
	const flood = 100_000
	for i := range flood {
		offered := ts.ask(packet(strangerMAC(i), discover))
		if offered == nil {
			continue
		}
		addr := offered.YourIPAddr.String()
		ts.ask(packet(strangerMAC(i), request, wants(addr), chooses("10.77.0.1")))
	}
	if st := ts.Stats(); st.ShareUsed != flood-100 || st.ACKs != 100 {
		t.Errorf("Stats = %+v, want leases for 100 strangers", st)
	}
	if got := ts.alarms.detail(fleet.CodeUnknownShare, "subnet rack"); !strings.Contains(got, "no address for 02:00:00:") {
		t.Errorf("alarm = %q", got)
	}
	for i := range 100 {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:01:%02x", i))
		ts.nodes[mac] = fleet.Node{MAC: mac, State: fleet.Ready}
		ts.lease(mac)
	}
	mac := fleet.MAC("52:54:00:00:02:00")
	ts.nodes[mac] = fleet.Node{MAC: mac, State: fleet.Ready}
	if got := ts.ask(packet(mac, discover)); got != nil {
		t.Errorf("answer = %v, and there were no more addresses", got)
	}
	if ts.alarms.detail(fleet.CodePoolExhausted, "subnet rack") == "" {
		t.Error("no alarm, and no address is free")
	}
	// Five minutes later the strangers are gone: others get what they had, and
	// known nodes too.
	ts.clock = ts.clock.Add(5*time.Minute + time.Second)
	ts.lease(mac)
	ts.lease(strangerMAC(flood + 1))
}

func TestAStrangerRequestsNothingBeyondItsShare(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.UnknownShare = 50 // two of four
	ts := newTestServer(t, n)
	ts.lease(macA)
	ts.lease(macB)
	third := fleet.MAC("52:54:00:00:00:0c")
	tests := map[string]*dhcpv4.DHCPv4{
		"an address that nobody had": packet(third, request, wants("10.77.0.103"), chooses("10.77.0.1")),
		"it asks for one by name":    packet(third, discover, wants("10.77.0.103")),
	}
	for name, in := range tests {
		if got := ts.ask(in); kindOf(got) != nak && got != nil {
			t.Errorf("%s: answer = %v", name, got)
		}
	}
	ts.nodes[third] = fleet.Node{MAC: third, State: fleet.Ready}
	ts.lease(third)
}

func TestAStrangerThatIsApprovedCountsNoLonger(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.UnknownShare = 25 // one of four
	ts := newTestServer(t, n)
	addr := ts.lease(macA)
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Fatalf("answer = %v, and a stranger has the only address that is for strangers", got)
	}
	ts.nodes[macA] = fleet.Node{MAC: macA, State: fleet.Ready}
	if got := ts.ask(packet(macA, request, has(addr))); kindOf(got) != ack || got.IPAddressLeaseTime(0) != 10*time.Minute {
		t.Fatalf("answer = %v, want an ACK with the subnet's lease time", got)
	}
	ts.lease(macB)
	// A restart knows whose the addresses are.
	ts.start(n)
	third := fleet.MAC("52:54:00:00:00:0c")
	if got := ts.ask(packet(third, discover)); got != nil {
		t.Errorf("answer = %v: after the restart strangers have more than their share", got)
	}
	if use := ts.Subnets(); len(use) != 1 || use[0].Strangers != 1 || use[0].MostOfThem != 1 {
		t.Errorf("Subnets = %+v, want one stranger of one", use)
	}
}

func TestStrangersHaveShortLeases(t *testing.T) {
	tests := map[string]struct {
		lease, unknown int
		want           time.Duration
	}{
		"by default five minutes":         {3600, 0, 5 * time.Minute},
		"as the subnet says":              {3600, 120, 2 * time.Minute},
		"never longer than others":        {60, 0, time.Minute},
		"never longer than others either": {60, 600, time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Lease, n.UnknownLease = tt.lease, tt.unknown
			ts := newTestServer(t, n)
			got := ts.ask(packet(macA, discover))
			if lease := got.IPAddressLeaseTime(0); lease != tt.want {
				t.Errorf("lease = %s, want %s", lease, tt.want)
			}
		})
	}
}
