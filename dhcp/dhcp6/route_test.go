package dhcp6

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
)

func rack4(mode fleet.DHCPMode) fleet.Subnet {
	return fleet.Subnet{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: mode}
}

// theLink has both families.
func theLink() links.Link {
	return links.Link{
		Index: rackIndex, Name: "rack0", Hardware: []byte{2, 0, 0, 0, 0, 1}, Local: localIP,
		Prefixes: []netip.Prefix{netip.PrefixFrom(serverIP, 64), netip.MustParsePrefix("10.77.0.1/24")},
	}
}

func TestWhatIsAdvertisedDependsOnWhatIsServed(t *testing.T) {
	with := func(change func(*fleet.Subnet)) fleet.Subnet {
		n := rack6()
		change(&n)
		return n
	}
	tests := map[string]struct {
		subnets            []fleet.Subnet
		courtesy, ok, rout bool
	}{
		"IPv6 that is served":                    {[]fleet.Subnet{rack6()}, false, true, false},
		"both on one wire":                       {[]fleet.Subnet{rack4(fleet.Full), rack6()}, false, true, false},
		"IPv4 alone: a courtesy":                 {[]fleet.Subnet{rack4(fleet.Reserved)}, true, true, false},
		"IPv6 that is observed, and served IPv4": {[]fleet.Subnet{rack4(fleet.Full), with(func(n *fleet.Subnet) { n.Mode = fleet.Observe })}, true, true, false},
		"beside another server":                  {[]fleet.Subnet{rack4(fleet.Proxy)}, false, false, false},
		"observed":                               {[]fleet.Subnet{with(func(n *fleet.Subnet) { n.Mode = fleet.Observe })}, false, false, false},
		"another network":                        {[]fleet.Subnet{remote6()}, false, false, false},
		"we are the declared router":             {[]fleet.Subnet{with(func(n *fleet.Subnet) { n.Router = serverIP })}, false, true, true},
		"somebody else is":                       {[]fleet.Subnet{with(func(n *fleet.Subnet) { n.Router = netip.MustParseAddr("fd98::fe") })}, false, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, courtesy, ok := advertisementFor(theLink(), tt.subnets)
			if ok != tt.ok || courtesy != tt.courtesy {
				t.Errorf("advertise %v as a courtesy %v, want %v and %v", ok, courtesy, tt.ok, tt.courtesy)
			}
			if router := a.lifetime > 0; router != tt.rout {
				t.Errorf("a default router: %v, want %v", router, tt.rout)
			}
			if a.managed != (ok && !courtesy) {
				t.Errorf("managed %v, want it exactly where IPv6 is served", a.managed)
			}
		})
	}
}

func TestAdvertisementsAreAsTheRFCsHaveThem(t *testing.T) {
	n := rack6()
	n.MTU, n.SLAAC = 1500, true
	a, _, _ := advertisementFor(theLink(), []fleet.Subnet{n})
	want := "" +
		"\x40\xc0\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + // hop limit, M and O, no router
		"\x01\x01\x02\x00\x00\x00\x00\x01" + // source
		"\x05\x01\x00\x00\x00\x00\x05\xdc" + // MTU
		"\x03\x04\x40\xc0" + "\x00\x00\x1c\x20" + "\x00\x00\x0e\x10" + "\x00\x00\x00\x00" +
		"\xfd\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // on link, autonomous
		"\x19\x03\x00\x00" + "\x00\x00\x00\xb4" +
		"\xfd\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x53" // name server
	if diff := cmp.Diff([]byte(want), a.body()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (advertisement{}).body(); string(got) != "\x40"+string(make([]byte, 11)) {
		t.Errorf("the courtesy is %x, want nothing but a hop limit", got)
	}
}

func TestWhereSomebodyElseAdvertisesTheCourtesyEnds(t *testing.T) {
	b := newBench(t, rack4(fleet.Full))
	r := &router{s: b.Server, joined: groups{rackIndex: true}, wires: map[int]*wire{}}
	foreign := &net.IPAddr{IP: net.ParseIP("fe80::99")}
	body := append([]byte{134, 0, 0, 0}, advertisement{lifetime: routerLife}.body()...)
	now := start
	r.hear(body, rackIndex, &net.IPAddr{IP: localIP.AsSlice()}, now) // our own
	if !r.wire(rackIndex).foreign.IsZero() {
		t.Error("our own advertisement was taken for another's")
	}
	r.hear(body, rackIndex, foreign, now)
	if b.Stats().ForeignRouters != 1 {
		t.Errorf("counted %d advertisements of others, want 1", b.Stats().ForeignRouters)
	}
	r.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, rackIndex, &net.IPAddr{IP: machine.AsSlice()}, now.Add(routerLife-time.Second))
	if got := b.Stats().Solicitations; got != 0 {
		t.Errorf("%d solicitations answered beside another router, want none", got)
	}
}

// Whatever a neighbour's message does to us, the next one is heard.
func TestAMessageThatMakesUsFailCostsOnlyItself(t *testing.T) {
	s := &Server{o: Options{Log: slog.New(slog.DiscardHandler)}}
	r := &router{s: s}
	for range 2 { // it has no links to look at
		r.hear([]byte{133, 0, 0, 0}, 1, nil, time.Time{})
	}
	if n := s.stats.panics.Load(); n != 2 {
		t.Errorf("%d panics counted, want 2", n)
	}
}
