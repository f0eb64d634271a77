package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

const leaseQuery = dhcpv4.MessageType(10)

func noHardware(m *dhcpv4.DHCPv4) {
	m.ClientHWAddr = nil
	m.HWType = 0
}

// A has 10.77.0.100 with the usual client identifier and B 10.77.0.101 with one
// of its own when each of these begins.
func TestALeaseQueryIsAnswered(t *testing.T) {
	by := relayed("10.77.0.9")
	tests := map[string]struct {
		changes []func(*dhcpv4.DHCPv4)
		mac     fleet.MAC
		want    dhcpv4.MessageType
		addr    string
		holder  fleet.MAC
	}{
		"by address":                        {set(by, has("10.77.0.100"), noHardware), macA, kindLeaseActive, "10.77.0.100", macA},
		"by an address that is free":        {set(by, has("10.77.0.103"), noHardware), macA, kindLeaseUnassigned, "10.77.0.103", ""},
		"by an address that is not ours":    {set(by, has("10.99.0.1"), noHardware), macA, kindLeaseUnknown, "10.99.0.1", ""},
		"by MAC":                            {set(by), macB, kindLeaseActive, "10.77.0.101", macB},
		"by the MAC of nobody":              {set(by), "52:54:00:00:00:0c", kindLeaseUnknown, "0.0.0.0", ""},
		"by client identifier":              {set(by, option(61, "\x00bee"), noHardware), macA, kindLeaseActive, "10.77.0.101", macB},
		"by an identifier that is a MAC":    {set(by, option(61, "\x01\x52\x54\x00\x00\x00\x0a"), noHardware), macA, kindLeaseActive, "10.77.0.100", macA},
		"by one that the client never said": {set(by, option(61, "\x01\x52\x54\x00\x00\x00\x0b"), noHardware), macA, kindLeaseUnknown, "0.0.0.0", ""},
		"by an identifier of nobody":        {set(by, option(61, "\x00nobody"), noHardware), macA, kindLeaseUnknown, "0.0.0.0", ""},
		"without a relay":                   {set(has("10.77.0.100"), noHardware), macA, silence, "", ""},
		"by a relay that no subnet names":   {set(relayed("10.77.0.8"), has("10.77.0.100")), macA, silence, "", ""},
		"by ourselves":                      {set(relayed("10.77.0.1"), has("10.77.0.100")), macA, silence, "", ""},
		"about nothing":                     {set(by, noHardware), macA, kindLeaseUnknown, "0.0.0.0", ""},
		"an answer in a request's clothes":  {set(by, has("10.77.0.100"), option(53, "\x0d")), macA, silence, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Relays = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
			ts := newTestServer(t, n)
			ts.ask(packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1"), option(61, "\x01\x52\x54\x00\x00\x00\x0a")))
			ts.ask(packet(macB, request, wants("10.77.0.101"), chooses("10.77.0.1"), option(61, "\x00bee")))
			ts.clock = ts.clock.Add(4 * time.Minute)
			got, r := ts.put(packet(tt.mac, leaseQuery, tt.changes...).ToBytes(), fromRelay("10.77.0.9"))
			if kindOf(got) != tt.want {
				t.Fatalf("answer = %s, want %s", kindOf(got), tt.want)
			}
			if got == nil {
				if st := ts.Stats(); st.QueryRefused+st.RelayLoop+st.NotAnswered != 1 {
					t.Errorf("Stats = %+v, want it counted", st)
				}
				return
			}
			if got.ClientIPAddr.String() != tt.addr || r.to.String() != "10.77.0.9:67" || !got.YourIPAddr.IsUnspecified() {
				t.Errorf("answer = %v to %s, want %s", got, r.to, tt.addr)
			}
			if tt.holder == "" {
				return
			}
			if got.ClientHWAddr.String() != string(tt.holder) || got.IPAddressLeaseTime(0) != 6*time.Minute {
				t.Errorf("answer = %v, want %s, six minutes left", got, tt.holder)
			}
		})
	}
}

func TestALeaseQueryNamesAllAddressesOfAClient(t *testing.T) {
	n, far := rackSubnet(fleet.Full), farSubnet()
	n.Relays = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
	ts := newTestServer(t, n, far)
	ts.lease(macA)
	ts.clock = ts.clock.Add(time.Minute)
	ts.put(packet(macA, request, relayed("10.88.0.1"), wants("10.88.0.10"), chooses("10.77.0.1")).ToBytes(), fromRelay("10.88.0.1"))
	got, _ := ts.put(packet(macA, leaseQuery, relayed("10.77.0.9")).ToBytes(), fromRelay("10.77.0.9"))
	if kindOf(got) != kindLeaseActive || got.ClientIPAddr.String() != "10.77.0.100" && got.ClientIPAddr.String() != "10.88.0.10" {
		t.Fatalf("answer = %v", got)
	}
	if len(got.Options[92]) != 8 {
		t.Errorf("option 92 = %x, want both addresses", got.Options[92])
	}
}
