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
	takes := packet(macA, request, rom, wants("10.77.0.150"), chooses("10.77.0.2"))
	tests := map[string]struct {
		mode fleet.DHCPMode
		in   *dhcpv4.DHCPv4
		from arrival
		want bool
	}{
		"it takes it":                           {fleet.Proxy, takes, byBroadcast(), true},
		"it takes it where we watch":            {fleet.Observe, takes, byBroadcast(), true},
		"it has it, and asks us what to boot":   {fleet.Proxy, packet(macA, request, rom, has("10.77.0.150")), onProxyPort(), true},
		"behind a relay":                        {fleet.Proxy, packet(macA, request, rom, wants("10.77.0.150"), chooses("10.77.0.2"), relayed("10.77.0.9")), fromRelay("10.77.0.9"), true},
		"it would like to have it":              {fleet.Proxy, packet(macA, discover, rom, wants("10.77.0.150")), byBroadcast(), false},
		"an operating system takes it":          {fleet.Proxy, packet(macA, request, wants("10.77.0.150"), chooses("10.77.0.2")), byBroadcast(), false},
		"it is of another network":              {fleet.Proxy, packet(macA, request, rom, wants("10.99.0.150"), chooses("10.77.0.2")), byBroadcast(), false},
		"we give out addresses there":           {fleet.Full, takes, byBroadcast(), false},
		"we give out addresses there, to known": {fleet.Reserved, takes, byBroadcast(), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, modesSubnet(tt.mode))
			ts.put(tt.in.ToBytes(), tt.from)
			for _, addr := range []string{"10.77.0.150", "10.99.0.150"} {
				mac, ok := ts.TenantAt(netip.MustParseAddr(addr))
				if want := tt.want && addr == "10.77.0.150"; ok != want || ok && mac != macA {
					t.Errorf("at %s is %q, %t; want %q: %t", addr, mac, ok, macA, want)
				}
			}
		})
	}
}

func TestTenantsAreForgotten(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var all tenants
	first, addr := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.0")
	all.note(first, macA, now)
	if mac, ok := all.at(first, now.Add(tenancy)); mac != macA || !ok {
		t.Errorf("after %s: %q, %t", tenancy, mac, ok)
	}
	if mac, ok := all.at(first, now.Add(tenancy+1)); ok {
		t.Errorf("after more than %s: %q", tenancy, mac)
	}
	for range 10 * tenantsKept {
		all.note(addr, macA, now)
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
}
