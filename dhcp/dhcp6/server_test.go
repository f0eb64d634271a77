package dhcp6

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

// waiting counts leases that are said to be on their way to the disk.
func (b *bench) waiting() (n int) {
	for _, l := range b.book.ledgers {
		for _, p := range l.byAddr {
			n += p.storing
		}
	}
	return n
}

// oneAddress is a subnet with a single address, for anybody.
func oneAddress() fleet.Subnet {
	n := rack6()
	n.Ranges[0].Last, n.UnknownShare = n.Ranges[0].First, 100
	return n
}

func TestAPacketThatMakesUsFailTakesNoAddress(t *testing.T) {
	rapid := func(m *dhcpv6.Message) *dhcpv6.Message {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		return m
	}
	tests := map[string]struct {
		leased bool // before
		say    func(b *bench, addr netip.Addr) *dhcpv6.Message
	}{
		"a request":        {false, func(b *bench, _ netip.Addr) *dhcpv6.Message { return uefi.say(t, dhcpv6.MessageTypeRequest, b.id) }},
		"one by a leased":  {true, func(b *bench, a netip.Addr) *dhcpv6.Message { return uefi.say(t, dhcpv6.MessageTypeRequest, b.id, a) }},
		"a solicitation":   {false, func(*bench, netip.Addr) *dhcpv6.Message { return rapid(uefi.say(t, dhcpv6.MessageTypeSolicit, nil)) }},
		"a declined lease": {true, func(b *bench, a netip.Addr) *dhcpv6.Message { return uefi.say(t, dhcpv6.MessageTypeDecline, b.id, a) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, oneAddress())
			var addr netip.Addr
			if tt.leased {
				addr = b.boot(t, uefi)
			}
			b.notes.broken = true
			if got := b.hear(t, uefi, tt.say(b, addr)); got != nil || b.Stats().Panics != 1 {
				t.Fatalf("answer %v, counters %+v; want a panic", got, b.Stats())
			}
			b.notes.broken = false
			if n := b.waiting(); n != 0 {
				t.Errorf("%d leases wait for the disk, want none", n)
			}
			b.clock = b.clock.Add(quarantineTime + time.Second)
			b.boot(t, other)
		})
	}
}

// Two associations of one card have one address.
func TestAnAddressThatIsLeasedTwiceInOneAnswerIsStored(t *testing.T) {
	b := newBench(t, oneAddress())
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew} {
		m := agent.say(t, kind, b.id)
		m.AddOption(&dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, 9}})
		if got := addressIn(b.hear(t, agent, m)); !got.IsValid() {
			t.Fatalf("no address after %s", kind)
		}
		if n := b.waiting(); n != 0 {
			t.Errorf("after %s %d leases wait for the disk, want none", kind, n)
		}
	}
	b.clock = b.clock.Add(unknownLease + offerTime + time.Second)
	b.boot(t, other)
}
