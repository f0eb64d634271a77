package dhcp

import (
	"bytes"
	"fmt"
	"net"
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
			if got.Options[1] == nil {
				t.Error("no mask: those that know options and do not say so need it")
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

// A ROM that speaks its maker's format in the vendor area is not told in
// another.
func TestAVendorsFormatIsLeftAlone(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.BOOTP = true
	ts := newTestServer(t, n)
	in := bootpPacket(macA, true)
	area := append([]byte("CMU\x00"), bytes.Repeat([]byte{7}, 60)...)
	copy(in[atCookie:], area)
	r, ok := ts.handle(in[:atCookie+len(area)], byBroadcast())
	if !ok || len(r.packet) != maxBOOTP || !bytes.Equal(r.packet[atCookie:], area) || r.packet[atYour+3] != 100 {
		t.Errorf("answer = %x, want an address and its own vendor area", r.packet)
	}
}

// An old ROM cannot decline: what it is given was asked for before.
func TestAnOldROMIsNotGivenAnAddressThatSomebodyUses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := rackSubnet(fleet.Full)
	n.BOOTP = true
	onASquattedWire(t, nil, n, func(s *Server) error {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: clientPort})
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		ask := bootpPacket(macA, false)
		for range 2 { // it repeats itself before we have asked
			if _, err := c.WriteTo(ask, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 255), Port: serverPort}); err != nil {
				return err
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		b := make([]byte, 2048)
		if _, err := c.Read(b); err != nil {
			return fmt.Errorf("no answer: %w (%+v)", err, s.Stats())
		}
		if got := addrOf(b[atYour : atYour+4]).String(); got != "10.77.0.101" {
			return fmt.Errorf("A has %s, want 10.77.0.101", got)
		}
		for addr, want := range map[string]bool{"10.77.0.100": false, "10.77.0.101": true} {
			if l, ok := s.LeaseByAddr(netip.MustParseAddr(addr)); ok != want {
				return fmt.Errorf("lease of %s = %+v, %t", addr, l, ok)
			}
		}
		return nil
	})
}
