package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

func TestWhoBootsAtAnAddressOfAnotherServerIsKnown(t *testing.T) {
	rom := firmware("PXEClient:Arch:00007:UNDI:003000", 7)
	takes := packet(macA, request, rom, wants("10.77.0.50"), chooses("10.77.0.2"))
	has50 := packet(macA, request, rom, has("10.77.0.50"))
	relayedBy := func(giaddr string) *dhcpv4.DHCPv4 {
		return packet(macA, request, rom, wants("10.77.0.50"), chooses("10.77.0.2"), relayed(giaddr))
	}
	anyRelay := func(n *fleet.Subnet) { n.Relays = nil }
	tests := map[string]struct {
		mode   fleet.DHCPMode
		change func(*fleet.Subnet)
		in     *dhcpv4.DHCPv4
		from   arrival
		want   bool
	}{
		"it takes it":                             {fleet.Proxy, nil, takes, byBroadcast(), true},
		"it takes it where we watch":              {fleet.Observe, nil, takes, byBroadcast(), true},
		"it has it, and asks us what to boot":     {fleet.Proxy, nil, has50, onProxyPort(), true},
		"behind a relay":                          {fleet.Proxy, nil, relayedBy("10.77.0.9"), fromRelay("10.77.0.9"), true},
		"it would like to have it":                {fleet.Proxy, nil, packet(macA, discover, rom, wants("10.77.0.50")), byBroadcast(), false},
		"an operating system takes it":            {fleet.Proxy, nil, packet(macA, request, wants("10.77.0.50"), chooses("10.77.0.2")), byBroadcast(), false},
		"it is of another network":                {fleet.Proxy, nil, packet(macA, request, rom, wants("10.99.0.50"), chooses("10.77.0.2")), byBroadcast(), false},
		"we give out addresses there":             {fleet.Full, nil, takes, byBroadcast(), false},
		"we give out addresses there, to known":   {fleet.Reserved, nil, takes, byBroadcast(), false},
		"from afar, as who has it":                {fleet.Proxy, nil, has50, byUnicast("203.0.113.5"), false},
		"from afar, in the name of a relay":       {fleet.Proxy, anyRelay, relayedBy("10.77.0.77"), byUnicast("203.0.113.5"), false},
		"a relay that nobody names":               {fleet.Observe, anyRelay, relayedBy("10.77.0.77"), fromRelay("10.77.0.77"), false},
		"who has another address, as who has it":  {fleet.Proxy, nil, packet(macA, request, rom, has("10.77.0.51")), onProxyPort(), false},
		"who has another address, would like it":  {fleet.Proxy, nil, takes, byUnicast("10.77.0.51"), false},
		"it is of the server's own other network": {fleet.Proxy, nil, packet(macA, request, rom, has("10.88.0.50")), byUnicast("10.88.0.50"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := modesSubnet(tt.mode)
			if tt.change != nil {
				tt.change(&n)
			}
			ts := newTestServer(t, n)
			ts.put(tt.in.ToBytes(), tt.from)
			for _, addr := range []string{"10.77.0.50", "10.77.0.51", "10.88.0.50", "10.99.0.50"} {
				mac, ok := ts.TenantAt(netip.MustParseAddr(addr))
				if want := tt.want && addr == "10.77.0.50"; ok != want || ok && mac != macA {
					t.Errorf("at %s is %q, %t; want %q: %t", addr, mac, ok, macA, want)
				}
			}
		})
	}
}

// Whoever is on the wire can say where it is. What a machine has just said of
// itself stands, and what was said ends when addresses are ours to give.
func TestAMachineIsNotPushedOutOfItsAddress(t *testing.T) {
	rom := firmware("PXEClient:Arch:00007:UNDI:003000", 7)
	ts := newTestServer(t, modesSubnet(fleet.Proxy))
	addr := netip.MustParseAddr("10.77.0.50")
	says := func(mac fleet.MAC) { ts.put(packet(mac, request, rom, wants("10.77.0.50")).ToBytes(), byBroadcast()) }
	is := func(want fleet.MAC) {
		t.Helper()
		if mac, _ := ts.TenantAt(addr); mac != want {
			t.Errorf("there is %q, want %q", mac, want)
		}
	}
	says(macA)
	says(macB)
	is(macA)
	if n := ts.Stats().TenantsRefused; n != 1 {
		t.Errorf("%d were refused, want 1", n)
	}
	ts.clock = ts.clock.Add(movesIn)
	ts.put(packet(macB, request, rom, has("10.77.0.50")).ToBytes(), onProxyPort())
	is(macB)
	says(macA) // by broadcast, which comes from no other wire
	is(macA)
	ts.SetSubnets([]fleet.Subnet{modesSubnet(fleet.Full)})
	is("")
}

func TestTenantsAreForgotten(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var all tenants
	first, addr := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.0")
	all.note(first, tenant{macA, now, true})
	if mac, ok := all.at(first, now.Add(tenancy)); mac != macA || !ok {
		t.Errorf("after %s: %q, %t", tenancy, mac, ok)
	}
	if mac, ok := all.at(first, now.Add(tenancy+1)); ok {
		t.Errorf("after more than %s: %q", tenancy, mac)
	}
	for range 10 * tenantsKept {
		if !all.note(addr, tenant{macA, now, true}) {
			t.Fatalf("nobody believes it of %s", addr)
		}
		if n := len(all.young) + len(all.old); n > 2*tenantsKept {
			t.Fatalf("%d are kept, want %d at most", n, 2*tenantsKept)
		}
		addr = addr.Next()
	}
	if _, ok := all.at(addr.Prev(), now); !ok {
		t.Error("the last one is not known")
	}
	if mac, ok := all.at(first, now); ok {
		t.Errorf("the first one is known still: %q", mac)
	}
	if n := all.lost(); n < 8*tenantsKept {
		t.Errorf("%d were forgotten before their time, want most of %d", n, 10*tenantsKept)
	}
}
