package dhcp

import (
	"net/netip"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// rowSubnets share one wire: the first has one address, the second two.
func rowSubnets() (a, b fleet.Subnet) {
	at := func(a string) netip.Addr { return netip.MustParseAddr(a) }
	a, b = rackSubnet(fleet.Full), rackSubnet(fleet.Full)
	a.Link, b.Link = "row", "row"
	a.Ranges = []fleet.AddrRange{{First: at("10.77.0.100"), Last: at("10.77.0.100")}}
	b.Name, b.CIDR, b.Router = "more", netip.MustParsePrefix("10.78.0.0/24"), at("10.78.0.1")
	b.Ranges = []fleet.AddrRange{{First: at("10.78.0.100"), Last: at("10.78.0.101")}}
	b.Domain = "more.example"
	return a, b
}

func TestAClientGetsAnAddressOfAnySubnetOfItsWire(t *testing.T) {
	a, b := rowSubnets()
	other := rackSubnet(fleet.Full)
	other.Name, other.CIDR = "other", netip.MustParsePrefix("10.79.0.0/24")
	other.Ranges = []fleet.AddrRange{{First: netip.MustParseAddr("10.79.0.5"), Last: netip.MustParseAddr("10.79.0.9")}}
	ts := newTestServer(t, a, b, other)
	if got := ts.lease(macA); got != "10.77.0.100" {
		t.Fatalf("A has %s, want the address of the first subnet", got)
	}
	got := ts.ask(packet(macB, discover))
	if got == nil || got.YourIPAddr.String() != "10.78.0.100" {
		t.Fatalf("answer = %v, want an address of the second subnet", got)
	}
	if got.Router()[0].String() != "10.78.0.1" || got.DomainName() != "more.example" || got.SubnetMask().String() != "ffffff00" {
		t.Errorf("options = %v, want those of the second subnet", got.Options)
	}
	if got := ts.lease(macB); got != "10.78.0.100" {
		t.Fatalf("B has %s", got)
	}
	if l, ok := ts.LeaseByAddr(netip.MustParseAddr("10.78.0.100")); !ok || l.Subnet != "more" {
		t.Errorf("lease = %+v, want it on the second subnet", l)
	}
	// What it has, it keeps, whatever becomes free on the first subnet.
	ts.ask(packet(macA, release, has("10.77.0.100")))
	ts.clock = ts.clock.Add(1)
	if got := ts.lease(macB); got != "10.78.0.100" {
		t.Errorf("B was moved to %s", got)
	}
	if got := ts.ask(packet(macB, request, has("10.78.0.100"))); kindOf(got) != ack || got.YourIPAddr.String() != "10.78.0.100" {
		t.Errorf("answer = %v, want a renewal", got)
	}
	if got := ts.ask(packet(macB, request, wants("10.78.0.100"))); kindOf(got) != ack {
		t.Errorf("answer = %v, want an ACK: it comes back", got)
	}
	if got := ts.ask(packet(macB, request, wants("10.79.0.5"))); kindOf(got) != nak {
		t.Errorf("answer = %v, want a NAK: that is no subnet of this wire", got)
	}
}

func TestAWireWithAModeForEachSubnet(t *testing.T) {
	a, b := rowSubnets()
	a.Mode = fleet.Reserved
	ts := newTestServer(t, b, a) // our address is of a
	ts.nodes[macA] = fleet.Node{MAC: macA, State: fleet.Ready, Addr: netip.MustParseAddr("10.77.0.100")}
	if got := ts.ask(packet(macA, discover)); got == nil || got.YourIPAddr.String() != "10.77.0.100" {
		t.Errorf("answer = %v, want a node's own address", got)
	}
	a.Mode, b.Mode = fleet.Full, fleet.Observe
	ts.SetSubnets([]fleet.Subnet{a, b})
	ts.lease(macA)
	if got := ts.ask(packet(macB, discover)); got != nil {
		t.Errorf("answer = %v, and the subnet with free addresses observes", got)
	}
}

func TestAReservationOfTheWireDecides(t *testing.T) {
	a, b := rowSubnets()
	b.Reservations = []fleet.Reservation{{MAC: macA, Addr: netip.MustParseAddr("10.78.0.9")}}
	ts := newTestServer(t, a, b)
	if got := ts.lease(macA); got != "10.78.0.9" {
		t.Errorf("A has %s, want what is reserved for it", got)
	}
}
