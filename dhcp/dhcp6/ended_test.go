package dhcp6

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
)

// A client has one lease on a subnet, whatever the subnet was called before:
// the one that it left must not come back at a restart.
func TestALeaseEndsThoughItsSubnetHasAnotherNameNow(t *testing.T) {
	b := newBench(t)
	former := b.boot(t, agent)
	n := rack6()
	n.Name, n.Exclude = "hall6", []fleet.AddrRange{{First: former, Last: former}}
	b.SetSubnets([]fleet.Subnet{n})
	now := b.boot(t, agent)
	if now == former {
		t.Fatalf("it keeps %s, which is excluded", now)
	}
	b.restart(t)
	if l, ok := b.LeaseByAddr(now); !ok || l.MAC != theMAC {
		t.Errorf("the lease of %s = %+v, %v; want it to be the machine's", now, l, ok)
	}
	on, err := b.file.Leases6(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range on {
		if want := map[bool]fleet.LeaseState{true: fleet.LeaseBound, false: fleet.LeaseReleased}[l.Addr == now]; l.State != want {
			t.Errorf("%s is %s on disk, want %s", l.Addr, l.State, want)
		}
	}
}

// Where the disk knows of another holder, nobody is told that he has the
// address, an operator hears of it, and the client gets another one.
func TestAnAddressThatAnotherHoldsOnDiskIsGivenToNobodyElse(t *testing.T) {
	tests := map[string]struct {
		begin func(*bench) (addr netip.Addr)
		then  dhcpv6.MessageType
	}{
		"at the first lease": {func(b *bench) netip.Addr {
			return addressIn(b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeSolicit, nil)))
		}, dhcpv6.MessageTypeRequest},
		"at a renewal": {func(b *bench) netip.Addr { return b.boot(t, agent) }, dhcpv6.MessageTypeRenew},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := tt.begin(b)
			stands := fleet.Lease6{Addr: addr, Subnet: "rack6", DUID: other.duid, IAID: other.iaid, State: fleet.LeaseBound, Expires: start.Add(time.Hour)}
			b.file.saved = []fleet.Lease6{stands} // by a second server
			if answer := b.hear(t, agent, agent.say(t, tt.then, b.id, addr)); answer != nil {
				t.Errorf("it is told %v", answer)
			}
			if want := []string{string(fleet.CodeLeaseTwice) + " " + addr.String()}; !slices.Equal(b.notes.raised, want) || !strings.Contains(b.notes.detail, other.duid) {
				t.Errorf("alarms %v (%s), want %v with the holder's name", b.notes.raised, b.notes.detail, want)
			}
			if now := b.boot(t, agent); now == addr {
				t.Errorf("it has %s, which is another's", now)
			}
			if l, ok := b.LeaseByAddr(addr); !ok || l.DUID != other.duid || b.waiting() != 0 {
				t.Errorf("the lease of %s = %+v, %v; want it to be as on disk; %d wait", addr, l, ok, b.waiting())
			}
		})
	}
}
