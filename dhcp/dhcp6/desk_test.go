package dhcp6

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestACardHoldsTheAddressThatItsSystemHas(t *testing.T) {
	b := newBench(t)
	v := strangerNo(1)
	mac := macOfLinkLocal(v.from)
	if got := b.AddrsOf(mac); len(got) != 0 {
		t.Errorf("it holds %v before it has asked", got)
	}
	addr := b.boot(t, v)
	if got := b.AddrsOf(mac); len(got) != 1 || got[0] != addr {
		t.Errorf("it holds %v, want %s", got, addr)
	}
	b.clock = b.clock.Add(time.Hour)
	if got := b.AddrsOf(mac); len(got) != 0 {
		t.Errorf("it holds %v when its lease is over", got)
	}
}

func TestOperatorsSeeLeasesAndCanEndThem(t *testing.T) {
	b := newBench(t)
	one, two := b.boot(t, agent), b.boot(t, other)
	if two.Less(one) {
		one, two = two, one
	}
	all := b.Leases("", netip.Addr{}, 10)
	if len(all) != 2 || all[0].Addr != one || all[1].Addr != two {
		t.Fatalf("leases %+v, want %s and %s", all, one, two)
	}
	if page := b.Leases("rack6", one, 10); len(page) != 1 || page[0].Addr != two {
		t.Errorf("after %s come %+v, want %s", one, page, two)
	}
	if some := b.Leases("remote6", netip.Addr{}, 10); len(some) != 0 {
		t.Errorf("another subnet has %+v", some)
	}
	b.clock = b.clock.Add(countEvery)
	want := []SubnetUse{{Subnet: "rack6", Size: 4096, Used: 2, Strangers: 2, MostOfThem: 2048}, {Subnet: "remote6", Size: 4096, MostOfThem: 2048}}
	if use := b.Subnets(); !slices.Equal(use, want) {
		t.Errorf("use %+v, want %+v", use, want)
	}
	if _, err := b.Release(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.LeaseByAddr(one); ok || b.file.saved[len(b.file.saved)-1].State != fleet.LeaseReleased {
		t.Errorf("the lease of %s still stands", one)
	}
	b.clock = b.clock.Add(time.Second)
	if _, err := b.Release(t.Context(), one); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("released twice: %v, want that nobody has it", err)
	}
}
