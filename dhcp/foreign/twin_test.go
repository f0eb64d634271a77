package foreign

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// said4 is an offer, of a card and from an address, that names a server.
func said4(card net.HardwareAddr, from, names string, client net.HardwareAddr, relay string) []byte {
	b := make([]byte, 240)
	b[0], b[1], b[2] = bootReplyOp, 1, 6
	copy(b[16:], []byte{10, 20, 0, 99})
	if relay != "" {
		copy(b[24:], netip.MustParseAddr(relay).AsSlice())
	}
	copy(b[28:], client)
	copy(b[236:], cookie)
	b = append(append(b, 53, 1, offerType, 54, 4), netip.MustParseAddr(names).AsSlice()...)
	return frame(card, netip.MustParseAddr(from), netip.MustParseAddr("255.255.255.255"), clientPort, append(b, 255))
}

// asServer has a frame come from the port of a server.
func asServer(frame []byte) []byte {
	frame[etherLen+ipLen+1] = serverPort
	return frame
}

// A copy of this server answers in its name; what we say ourselves, and what
// relays pass of it, is no other server's.
func TestWhoUsesOurIdentityIsFound(t *testing.T) {
	const us, relay, other = "10.20.0.1", "10.20.0.7", "10.20.0.8"
	probe, machine := net.HardwareAddr{2, 0, 0, 0, 0, 5}, net.HardwareAddr{2, 0, 0, 0, 0, 6}
	second := net.HardwareAddr{2, 0, 0, 0, 0, 2} // of this host, for something else
	four := func(card net.HardwareAddr, from, names string, client net.HardwareAddr, giaddr string) []byte {
		return asServer(said4(card, from, names, client, giaddr))
	}
	six := said6(advertise6, address6(60)...)
	tests := map[string]struct {
		frame  []byte
		silent bool
		want   string // what the alarm says of it; "": none
	}{
		"our own answer":                        {four(rackNet.MAC, us, us, machine, ""), true, ""},
		"our own, by another card":              {four(second, us, us, machine, ""), true, ""},
		"our answer, by a relay":                {four(otherMAC, relay, us, machine, relay), true, ""},
		"our answer, by a relay that hides":     {four(otherMAC, relay, us, machine, ""), true, ""},
		"our answer, on its way to a relay":     {four(otherMAC, us, us, machine, relay), true, ""},
		"a copy that answers a machine":         {four(otherMAC, us, us, machine, ""), true, "uses this server's identity: address 10.20.0.1"},
		"a copy that answers a probe":           {four(otherMAC, us, us, probe, ""), true, "uses this server's identity: address 10.20.0.1"},
		"a copy behind a relay answers a probe": {four(otherMAC, relay, us, probe, relay), true, "uses this server's identity: address 10.20.0.1"},
		"another server":                        {four(otherMAC, other, other, machine, ""), true, "offers 10.20.0.99"},
		"of a relay's watch, the server":        {four(otherMAC, us, us, probe, ""), false, ""},
		"our DUID, to a machine":                {bytes.Replace(six, client6, machine, 1), true, ""},
		"our DUID, to a probe":                  {six, true, "uses this server's identity: DUID 000300015254009a1107"},
		"our DUID, by our card":                 {bytes.Replace(six, otherMAC, rackNet.MAC, 1), true, ""},
		"of a relay's watch, our DUID":          {six, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStreet6(rack6(fleet.Full), fleet.Subnet{Name: "rack", CIDR: netip.MustParsePrefix("10.20.0.0/22"), Mode: fleet.Proxy})
			s.client, s.cards = fleet.MAC(probe.String()), []net.HardwareAddr{rackNet.MAC, second}
			s.o.Own = func(a netip.Addr) bool { return a == netip.MustParseAddr(us) }
			s.o.DUID, s.o.Silent = "000300015254009a1107", tt.silent
			wire := &tap{family: families[0], net: rackNet}
			if tt.frame[12] == 0x86 {
				wire = &tap{family: families[1], net: rack6Net}
			}
			var room rooms
			s.Watch.hear(wire, tt.frame, &room)
			if got := s.Stats(); got.Malformed != 0 {
				t.Fatalf("Stats = %+v", got)
			}
			said := ""
			for _, other := range s.Servers() {
				said += other.Words()
			}
			if (said == "") != (tt.want == "") || !strings.Contains(said, tt.want) {
				t.Errorf("it is said to be %q, want %q", said, tt.want)
			}
			if alarms := len(s.board); strings.Contains(tt.want, "identity") && (alarms != 1 || !strings.Contains(said, otherMAC.String())) {
				t.Errorf("alarms %v, want one with its MAC", s.board)
			}
		})
	}
}
