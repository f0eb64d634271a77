package dhcp6

import (
	"testing"

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
