package dhcp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// bootpPacket is what a ROM of the nineties sends: 300 bytes, and no more in
// its vendor area than the cookie.
func bootpPacket(mac fleet.MAC, cookie bool, changes ...func(*dhcpv4.DHCPv4)) []byte {
	msg := packet(mac, silence, changes...)
	msg.Options = dhcpv4.Options{}
	for _, change := range changes {
		change(msg)
	}
	b := msg.ToBytes()
	if !cookie {
		copy(b[atCookie:], []byte{0, 0, 0, 0})
	}
	return b
}

func TestOldROMsAreAnsweredInTheirTongue(t *testing.T) {
	reserved := fleet.Reservation{MAC: macA, Addr: netip.MustParseAddr("10.77.0.20"), Hostname: "old"}
	tests := map[string]struct {
		bootp    bool
		reserved bool
		mode     fleet.DHCPMode
		cookie   bool
		want     string
	}{
		"off":                             {false, false, fleet.Full, true, ""},
		"off, with a reservation":         {false, true, fleet.Full, true, "10.77.0.20"},
		"on":                              {true, false, fleet.Full, true, "10.77.0.100"},
		"on, without a cookie":            {true, false, fleet.Full, false, "10.77.0.100"},
		"on, reserved, a stranger":        {true, false, fleet.Reserved, true, ""},
		"on, reserved, with its own":      {true, true, fleet.Reserved, true, "10.77.0.20"},
		"on, and the subnet observes":     {true, true, fleet.Observe, true, ""},
		"on, and another serves as proxy": {true, true, fleet.Proxy, true, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(tt.mode)
			n.BOOTP = tt.bootp
			n.Domain = "a-very-long-domain-of-sixty-characters-that-does-not-fit.example"
			if tt.reserved {
				n.Reservations = []fleet.Reservation{reserved}
			}
			ts := newTestServer(t, n)
			got, r := ts.put(bootpPacket(macA, tt.cookie), byBroadcast())
			if tt.want == "" {
				if got != nil || ts.leases.saves != 0 {
					t.Errorf("answer = %v", got)
				}
				return
			}
			if got == nil || got.YourIPAddr.String() != tt.want || len(r.packet) != 300 || r.to.String() != "255.255.255.255:68" {
				t.Fatalf("answer = %v to %s, %d bytes, want %s", got, r.to, len(r.packet), tt.want)
			}
			for _, code := range []uint8{50, 51, 53, 54, 58, 59, 15} {
				if got.Options[code] != nil {
					t.Errorf("option %d = %x in an answer to a BOOTP client", code, got.Options[code])
				}
			}
			if has := got.Options[1] != nil; has != tt.cookie {
				t.Errorf("mask %x, and the client knows options: %t", got.Options[1], tt.cookie)
			}
			if !bytes.Equal(got.ServerIPAddr.To4(), []byte{10, 77, 0, 1}) {
				t.Errorf("siaddr = %s", got.ServerIPAddr)
			}
			l, ok := ts.LeaseByAddr(netip.MustParseAddr(tt.want))
			if !ok || l.MAC != macA || l.Expires.Sub(ts.clock) != 24*time.Hour || ts.leases.saves != 1 {
				t.Errorf("lease = %+v, %t, want a day for A, and stored", l, ok)
			}
		})
	}
}

func TestAnOldROMGetsTheSameAddressAgain(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.BOOTP = true
	ts := newTestServer(t, n)
	first, _ := ts.put(bootpPacket(macA, true), byBroadcast())
	ts.put(bootpPacket(macB, true), byBroadcast())
	ts.clock = ts.clock.Add(72 * time.Hour)
	again, _ := ts.put(bootpPacket(macA, true), byBroadcast())
	if !first.YourIPAddr.Equal(again.YourIPAddr) {
		t.Errorf("A had %s and has %s", first.YourIPAddr, again.YourIPAddr)
	}
	if st := ts.Stats(); st.ACKs != 3 || st.TooOld != 0 {
		t.Errorf("Stats = %+v", st)
	}
}
