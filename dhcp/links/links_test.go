package links

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func both(netip.Addr) bool { return true }

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func addressed(t *testing.T, texts ...string) (all []net.Addr) {
	t.Helper()
	for _, s := range texts {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	return append(all, &net.IPAddr{IP: net.IPv4(10, 0, 0, 9)}) // without a network
}

func TestALinkHasTheAddressesOfTheFamilyThatIsWanted(t *testing.T) {
	addrs := addressed(t, "10.77.0.1/24", "fe80::1/64", "fd77::1/64", "169.254.7.7/16")
	tests := map[string]struct {
		want     func(netip.Addr) bool
		prefixes []netip.Prefix
	}{
		"of IPv4": {netip.Addr.Is4, prefixes("10.77.0.1/24", "169.254.7.7/16")},
		"of both": {both, prefixes("10.77.0.1/24", "fd77::1/64", "169.254.7.7/16")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var l Link
			l.read(addrs, tt.want)
			if diff := cmp.Diff(tt.prefixes, l.Prefixes, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := netip.MustParseAddr("fe80::1"); l.Local != want {
				t.Errorf("link-local address %v, want %v", l.Local, want)
			}
		})
	}
}

func TestOnlyLinksWithANameOfOursAreServed(t *testing.T) {
	table := New([]string{"eth1"}, both)
	eth0, eth1 := Link{Index: 1, Name: "eth0", Prefixes: prefixes("10.76.0.1/24")}, Link{Index: 2, Name: "eth1", Prefixes: prefixes("10.77.0.1/24")}
	if !table.Put(eth0, eth1) {
		t.Error("the first addresses are no change")
	}
	if table.Put(eth1, eth0) {
		t.Error("the same addresses are a change")
	}
	if _, served := table.Get(1); served {
		t.Error("eth0 is served")
	}
	if _, served := table.Get(2); !served || len(table.All()) != 1 {
		t.Errorf("served: %v, want eth1 alone", table.All())
	}
	if !table.Own(netip.MustParseAddr("10.76.0.1")) {
		t.Error("an address of eth0 is not ours")
	}
	if l, near := table.Near(netip.MustParseAddr("10.77.0.200")); !near || l.Name != "eth1" {
		t.Errorf("Near = %+v, %t, want eth1", l, near)
	}
	if l, near := table.Near(netip.MustParseAddr("10.76.0.200")); near {
		t.Errorf("%+v leads to where we do not serve", l)
	}
}

func TestTheKernelIsAskedForLoopback(t *testing.T) {
	table := New(nil, netip.Addr.Is4)
	if changed, err := table.Refresh(); err != nil || !changed {
		t.Fatalf("Refresh = %t, %v", changed, err)
	}
	if local := netip.MustParseAddr("127.0.0.1"); !table.Own(local) || !table.Owned()[local] {
		t.Errorf("%s is not ours", local)
	}
}
