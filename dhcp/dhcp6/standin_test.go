package dhcp6

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

var itsOwn = netip.MustParseAddr("fd98::1abc")

// stands is a stand-in on the rack's wire that knows of these nodes.
func stands(t *testing.T, known nodes) *StandIn {
	t.Helper()
	in, err := NewStandIn(StandInOptions{DUID: DUID([16]byte{1, 2, 3}), Subnets: []fleet.Subnet{rack6()}, Nodes: known})
	if err != nil {
		t.Fatal(err)
	}
	in.s.links.Put(theLink())
	in.s.book.reconfigure(in.s.links.Owned())
	return in
}

func (t *StandIn) ask(v voice, m *dhcpv6.Message) (*dhcpv6.Message, Answer) {
	a := direct(v.from)
	out, ok := t.Answer(m.ToBytes(), a.ifindex, a.from, a.to)
	if !ok {
		return nil, out
	}
	answer, _ := dhcpv6.MessageFromBytes(out.Packet)
	return answer, out
}

func TestAStandInConfirmsItsOwnAddressToANodeAndNobodyElseAny(t *testing.T) {
	known := nodes{theMAC: {MAC: theMAC, State: fleet.Active, Addr: itsOwn}}
	four := nodes{theMAC: {MAC: theMAC, State: fleet.Active, Addr: netip.MustParseAddr("10.98.0.7")}}
	another := netip.MustParseAddr("fd98::1001")
	server := DUID([16]byte{1, 2, 3})
	const solicit, request, renew, rebind = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind
	tests := map[string]struct {
		nodes  nodes
		voice  voice
		kind   dhcpv6.MessageType
		server []byte
		wants  []netip.Addr
		want   netip.Addr
		leased bool
	}{
		"a node's firmware asks":                     {known, uefi, solicit, nil, nil, itsOwn, false},
		"it takes what it was offered":               {known, uefi, request, server, []netip.Addr{itsOwn}, itsOwn, true},
		"its system renews what the server gave it":  {known, linux, renew, server, []netip.Addr{itsOwn}, itsOwn, true},
		"its system has not reached the server":      {known, linux, rebind, nil, []netip.Addr{itsOwn}, itsOwn, true},
		"it renews one that is not known to be its":  {known, linux, renew, server, []netip.Addr{another}, netip.Addr{}, false},
		"it rebinds one that is not known to be its": {known, linux, rebind, nil, []netip.Addr{another}, netip.Addr{}, false},
		"its firmware's own stack":                   {known, side, solicit, nil, nil, netip.Addr{}, false},
		"it chose another server":                    {known, uefi, request, DUID([16]byte{9}), []netip.Addr{itsOwn}, netip.Addr{}, false},
		"a stranger asks":                            {known, other, solicit, nil, nil, netip.Addr{}, false},
		"a stranger wants the node's address":        {known, other, request, server, []netip.Addr{itsOwn}, netip.Addr{}, false},
		"a node with an address of IPv4 alone":       {four, uefi, solicit, nil, nil, netip.Addr{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			answer, out := stands(t, tt.nodes).ask(tt.voice, tt.voice.say(t, tt.kind, tt.server, tt.wants...))
			if got := addressIn(answer); got != tt.want || (answer != nil) != tt.want.IsValid() {
				t.Fatalf("answer %v, want %v", answer, tt.want)
			}
			if got := out.Leased.IsValid(); got != tt.leased || got && out.Leased != itsOwn {
				t.Errorf("it confirms %v", out.Leased)
			}
			if answer == nil {
				return
			}
			if life := answer.Options.OneIANA().Options.OneAddress().ValidLifetime; life != 10*time.Minute {
				t.Errorf("for %v, want ten minutes", life)
			}
			if url := answer.Options.BootFileURL(); tt.voice.duid == uefi.duid && !strings.Contains(url, "["+serverIP.String()+"]") {
				t.Errorf("boot file %q, want one of this machine's", url)
			}
			if o := answer.GetOneOption(dhcpv6.OptionPreference); tt.kind == solicit && (o == nil || o.ToBytes()[0] != highest) {
				t.Errorf("preference %v, want the highest: nobody shall wait", o)
			}
		})
	}
}

func TestAStandInForNobodyInParticularIsSilent(t *testing.T) {
	in := stands(t, nodes{theMAC: {MAC: theMAC, State: fleet.Active, Addr: itsOwn}})
	in.s.id = nil
	if _, out := in.ask(linux, linux.say(t, dhcpv6.MessageTypeRebind, nil, itsOwn)); out.Packet != nil {
		t.Errorf("without the server's DUID it answers %x", out.Packet)
	}
}

func TestAStandInLeavesMachinesBehindOtherRelaysAlone(t *testing.T) {
	in := stands(t, nodes{theMAC: {MAC: theMAC, State: fleet.Active, Addr: itsOwn}})
	m, err := dhcpv6.EncapsulateRelay(uefi.say(t, dhcpv6.MessageTypeSolicit, nil), dhcpv6.MessageTypeRelayForward, serverIP.AsSlice(), machine.AsSlice())
	if err != nil {
		t.Fatal(err)
	}
	a := direct(machine)
	for _, packet := range [][]byte{m.ToBytes(), nil} {
		if out, ok := in.Answer(packet, a.ifindex, a.from, a.to); ok {
			t.Errorf("%x is answered with %x", packet, out.Packet)
		}
	}
}

// An address of which it does not know may be of another prefix of the same wire.
func TestAStandInTellsNobodyThatHeIsOnAnotherLink(t *testing.T) {
	in := stands(t, nodes{theMAC: {MAC: theMAC, State: fleet.Active, Addr: itsOwn}})
	for addr, want := range map[netip.Addr]bool{itsOwn: true, netip.MustParseAddr("fd99::5"): false} {
		answer, _ := in.ask(linux, linux.say(t, dhcpv6.MessageTypeConfirm, nil, addr))
		if (answer != nil) != want {
			t.Errorf("CONFIRM of %s is answered with %v, want an answer: %v", addr, answer, want)
		}
	}
}
