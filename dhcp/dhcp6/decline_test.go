package dhcp6

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

// Somebody else is at a declined address: whoever declined it would only find
// that out again.
func TestWhoDeclinesAnAddressGetsAnotherOne(t *testing.T) {
	hidden := linux
	hidden.from = netip.MustParseAddr("fe80::dead:beef:1:2")
	reconfigured := func(b *bench) { b.SetSubnets([]fleet.Subnet{rack6(), remote6()}) }
	tests := map[string]struct {
		who   voice
		fails bool // the store, at the DECLINE
		then  func(*bench)
	}{
		"at once":                         {who: agent},
		"when its MAC is hidden":          {who: hidden},
		"as another voice":                {who: ipxe},
		"after other subnets came":        {who: agent, then: reconfigured},
		"when that cannot be stored":      {who: agent, fails: true},
		"when it cannot, and others came": {who: agent, fails: true, then: reconfigured},
		"after a restart":                 {who: agent, then: func(b *bench) { b.restart(t) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := b.boot(t, tt.who)
			b.file.full = tt.fails
			b.hear(t, tt.who, tt.who.say(t, dhcpv6.MessageTypeDecline, b.id, addr))
			b.file.full = false
			if tt.then != nil {
				tt.then(b)
			}
			for range 3 {
				b.clock = b.clock.Add(time.Second)
				if got := addressIn(b.hear(t, tt.who, tt.who.say(t, dhcpv6.MessageTypeSolicit, nil, addr))); got == addr || !got.IsValid() {
					t.Errorf("offered %v, and it declined %s", got, addr)
				}
				if got := addressIn(b.hear(t, tt.who, tt.who.say(t, dhcpv6.MessageTypeRequest, b.id, addr))); got == addr {
					t.Errorf("leased %s, which it declined", got)
				}
			}
			if next := b.boot(t, tt.who); next == addr {
				t.Errorf("it boots and gets %s, which it declined", next)
			}
			if n := b.waiting(); n != 0 {
				t.Errorf("%d leases wait for the disk, want none", n)
			}
		})
	}
}

// Between the DECLINE and its place on the disk other packets come.
func TestAnAddressWhoseDeclineIsBeingStoredIsNobodys(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last, n.UnknownShare = n.Ranges[0].First, 100 // one
	b := newBench(t, n)
	addr := b.boot(t, agent)
	decline := agent.say(t, dhcpv6.MessageTypeDecline, b.id, addr).ToBytes()
	first, ok := b.handle(decline, direct(agent.from))
	if !ok || len(first.leases) != 1 {
		t.Fatalf("DECLINE = %+v, %t; want a lease to store", first, ok)
	}
	again, ok := b.handle(decline, direct(agent.from))
	if !ok || len(again.leases) != 1 {
		t.Errorf("the DECLINE once more = %+v, %t; want that it waits for the disk too", again, ok)
	}
	for name, kind := range map[string]dhcpv6.MessageType{"SOLICIT": dhcpv6.MessageTypeSolicit, "RENEW": dhcpv6.MessageTypeRenew, "RELEASE": dhcpv6.MessageTypeRelease} {
		server := b.id
		if kind == dhcpv6.MessageTypeSolicit {
			server = nil
		}
		r, ok := b.handle(agent.say(t, kind, server, addr).ToBytes(), direct(agent.from))
		if len(r.leases) != 0 {
			t.Errorf("%s changes the lease to %+v", name, r.leases[0])
		}
		if d, err := dhcpv6.FromBytes(r.packet); !ok || err != nil {
			t.Errorf("%s: no answer", name)
		} else if m, _ := d.(*dhcpv6.Message); addressIn(m).IsValid() {
			t.Errorf("%s gets %s", name, addressIn(m))
		}
	}
	newCommitter(b.Server, func([]reply) {}).Commit(t.Context(), []reply{first, again})
	if all := b.Leases("", netip.Addr{}, 9); len(all) != 1 || all[0].State != fleet.LeaseDeclined {
		t.Errorf("leases %+v, want it in quarantine", all)
	}
	b.clock = b.clock.Add(quarantineTime - time.Second)
	if got := addressIn(b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeSolicit, nil))); got.IsValid() {
		t.Errorf("offered %s in quarantine", got)
	}
	b.clock = b.clock.Add(2 * time.Second)
	b.boot(t, agent)
}
