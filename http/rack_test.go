package http

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestNodesOfARackHearOfEachOther(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRacks(func() time.Time { return now })
	here := rackGroup{digest: "d", subnet: "boot"}
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4000)
	}
	if peers, every := r.join("a", here, addr(1)); !slices.Equal(peers, []string{"10.0.0.1:4000"}) || every != 1 {
		t.Errorf("the first hears %v, every %d s; want itself, every 1 s", peers, every)
	}
	if peers, _ := r.join("b", here, addr(2)); len(peers) != 2 {
		t.Errorf("the second hears %v, want both", peers)
	}
	for name, other := range map[string]rackGroup{
		"another image":  {digest: "e", subnet: "boot"},
		"another subnet": {digest: "d", subnet: "far"},
		"another switch": {digest: "d", subnet: "boot", chassis: "sw2"},
	} {
		if peers, _ := r.join(fleet.NodeID(name), other, addr(9)); len(peers) != 1 {
			t.Errorf("a node of %s hears %v, want itself alone", name, peers)
		}
	}
	now = now.Add(rackSettle + time.Second)
	if peers, every := r.join("a", here, addr(1)); len(peers) != 2 || every != rackEvery {
		t.Errorf("later it hears %v, every %d s; want both, every %d s", peers, every, rackEvery)
	}
	now = now.Add(rackHold - 2*time.Second)
	if peers, _ := r.join("a", here, addr(1)); len(peers) != 1 {
		t.Errorf("it hears %v after the other fell silent, want itself alone", peers)
	}
	r.join("a", rackGroup{digest: "e", subnet: "boot"}, addr(1))
	if len(r.groups[here]) != 0 {
		t.Errorf("who fetches another image now is still in its old group")
	}
	for id := range r.member {
		r.leave(id)
	}
	if len(r.groups) != 0 || len(r.member) != 0 || r.order.Len() != 0 || len(r.latest) != 0 {
		t.Errorf("%d groups (%d the latest) and %d members (%d in order) are left of nobody", len(r.groups), len(r.latest), len(r.member), r.order.Len())
	}
}

func TestARackIsBounded(t *testing.T) {
	r := newRacks(time.Now)
	for i := range 3*api.MaxRackPeers - 1 {
		peers, _ := r.join(fleet.NodeID(fmt.Sprint("n", i)), rackGroup{digest: "d"}, netip.MustParseAddrPort("10.0.0.1:1"))
		if len(peers) > api.MaxRackPeers {
			t.Fatalf("node %d hears of %d others", i, len(peers))
		}
	}
	if len(r.groups) != 3 {
		t.Errorf("%d groups, want 3", len(r.groups))
	}
}

// TestARackThatCrashedTakesNoPlaces of its nodes, which come again by other names,
// nor does one that nobody comes back to.
func TestARackThatCrashedTakesNoPlaces(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRacks(func() time.Time { return now })
	here, at := rackGroup{digest: "d", subnet: "boot"}, netip.MustParseAddrPort("10.0.0.1:1")
	r.join("elsewhere", rackGroup{digest: "d", subnet: "far"}, at)
	for i := range api.MaxRackPeers {
		r.join(fleet.NodeID(fmt.Sprint("old", i)), here, at)
	}
	now = now.Add(rackHold + time.Second)
	for i := range api.MaxRackPeers {
		if peers, _ := r.join(fleet.NodeID(fmt.Sprint("new", i)), here, at); len(peers) != i+1 {
			t.Fatalf("node %d hears of %d, want %d: all that came before it, and itself", i, len(peers), i+1)
		}
	}
	if len(r.groups) != 1 || len(r.member) != api.MaxRackPeers {
		t.Errorf("%d groups of %d members, want one of %d", len(r.groups), len(r.member), api.MaxRackPeers)
	}
}

// TestAHallThatIsSwitchedOnAtOnceCostsAsMuchForEachNode as a rack does: whoever
// joins looks at its own group, and at next to nobody else. All wait for one
// another here.
func TestAHallThatIsSwitchedOnAtOnceCostsAsMuchForEachNode(t *testing.T) {
	const nodes, rack = 10_000, 40
	for name, chassis := range map[string]func(i int) string{
		"a switch for each rack": func(i int) string { return fmt.Sprint("sw", i/rack) },
		"no switch is known":     func(int) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			r := newRacks(func() time.Time { return now })
			hall := func(names string) (looked int) {
				before := r.looked
				for i := range nodes {
					now = now.Add(time.Millisecond)
					g := rackGroup{digest: "d", subnet: "boot", chassis: chassis(i)}
					r.join(fleet.NodeID(fmt.Sprint(names, i)), g, netip.MustParseAddrPort("10.0.0.1:1"))
				}
				return r.looked - before
			}
			most := nodes * (api.MaxRackPeers + 2)
			if looked := hall("n"); looked > most {
				t.Errorf("%d nodes that come looked at %d others and groups, want at most %d", nodes, looked, most)
			}
			if looked := hall("n"); looked > most {
				t.Errorf("%d nodes that say they are there looked at %d others and groups, want at most %d", nodes, looked, most)
			}
			now = now.Add(rackHold + time.Second)
			if looked := hall("m"); looked > most+nodes {
				t.Errorf("%d nodes that come after as many have crashed looked at %d others and groups, want at most %d", nodes, looked, most+nodes)
			}
			if len(r.member) != nodes {
				t.Errorf("%d members, want %d", len(r.member), nodes)
			}
		})
	}
}

func TestOnlyNodesBeingInstalledAreFed(t *testing.T) {
	site := newTLSSite(t)
	k := newAgentKey(t)
	var err error
	if k.cert, err = site.authority.SignBoot([]byte(k.request(t)), "n-0000000001"); err != nil {
		t.Fatal(err)
	}
	ask := api.RackRequest{Digest: "sha256:aa", Port: 4000}
	if code := site.call(k, "POST", api.PathRack, ask, nil); code != 409 {
		t.Errorf("an active node: status %d, want 409", code)
	}
	if code := site.call(nil, "POST", api.PathRack, ask, nil); code != 401 {
		t.Errorf("a stranger: status %d, want 401", code)
	}
	site.setState(fleet.Installing)
	var reply api.RackReply
	if code := site.call(k, "POST", api.PathRack, ask, &reply); code != 200 || reply.Self != "127.0.0.1:4000" || !slices.Equal(reply.Peers, []string{reply.Self}) {
		t.Errorf("a node being installed: status %d, %+v", code, reply)
	}
	if code := site.call(k, "POST", api.PathRack, api.RackRequest{Port: 4000}, nil); code != 422 {
		t.Errorf("no digest: status %d, want 422", code)
	}
	if code := site.call(k, "POST", api.PathRack, api.RackRequest{Digest: "sha256:aa"}, nil); code != 200 {
		t.Errorf("who leaves: status %d, want 200", code)
	}
}
