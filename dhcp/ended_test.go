package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

const macC fleet.MAC = "52:54:00:00:00:0c"

// gets has a client take an address, which it must be given.
func (ts *testServer) gets(mac fleet.MAC, addr string) {
	ts.t.Helper()
	if got := ts.ask(packet(mac, request, wants(addr), chooses("10.77.0.1"))); kindOf(got) != ack {
		ts.t.Fatalf("%s gets %s for %s, want an ACK", mac, kindOf(got), addr)
	}
}

// quarantined has somebody answer at an address whose lease is over.
func (ts *testServer) quarantined(addr string) {
	ts.t.Helper()
	if !ts.book.quarantine(netip.MustParseAddr(addr)) {
		ts.t.Fatalf("%s is not quarantined", addr)
	}
}

func named(name string) fleet.Subnet {
	n := rackSubnet(fleet.Full)
	n.Name = name
	return n
}

// What the server gave away, the table must not give back: neither when it is
// told of all at once, nor after each step, nor after a restart.
func TestALeaseIsKeptWhoeverHadItsAddressBefore(t *testing.T) {
	const one, two = "10.77.0.100", "10.77.0.101"
	tests := map[string]struct {
		steps []func(ts *testServer)
		want  map[string]fleet.MAC
	}{
		"a client goes on after its subnet was renamed": {
			[]func(ts *testServer){
				func(ts *testServer) { ts.gets(macA, one) },
				func(ts *testServer) { ts.SetSubnets([]fleet.Subnet{named("hall")}) },
				func(ts *testServer) { ts.gets(macA, two) },
				func(ts *testServer) { ts.gets(macB, one) },
			},
			map[string]fleet.MAC{one: macB, two: macA},
		},
		"and back": {
			[]func(ts *testServer){
				func(ts *testServer) { ts.gets(macA, two) },
				func(ts *testServer) { ts.SetSubnets([]fleet.Subnet{named("hall")}) },
				func(ts *testServer) { ts.gets(macA, one) },
			},
			map[string]fleet.MAC{one: macA},
		},
		"the clock is put back": {
			[]func(ts *testServer){
				func(ts *testServer) { ts.gets(macA, one) },
				func(ts *testServer) { ts.stepClock(-5 * time.Hour) },
				func(ts *testServer) { ts.clock = ts.clock.Add(11 * time.Minute) },
				func(ts *testServer) { ts.gets(macB, one) },
			},
			map[string]fleet.MAC{one: macB},
		},
		"the clock is put back, and somebody unknown was there": {
			[]func(ts *testServer){
				func(ts *testServer) { ts.gets(macA, one) },
				func(ts *testServer) { ts.stepClock(-5 * time.Hour) },
				func(ts *testServer) { ts.clock = ts.clock.Add(11 * time.Minute); ts.quarantined(one) },
				func(ts *testServer) { ts.clock = ts.clock.Add(11 * time.Minute) },
				func(ts *testServer) { ts.gets(macB, one) },
			},
			map[string]fleet.MAC{one: macB},
		},
		"two subnets become one": {
			[]func(ts *testServer){
				func(ts *testServer) { ts.SetSubnets([]fleet.Subnet{half("low", one), half("high", "10.77.0.201")}) },
				func(ts *testServer) { ts.gets(macA, one) },
				func(ts *testServer) { ts.gets(macA, "10.77.0.201") },
				func(ts *testServer) { ts.SetSubnets([]fleet.Subnet{bigSubnet()}) },
				func(ts *testServer) { ts.gets(macA, two) },
				func(ts *testServer) { ts.gets(macB, one); ts.gets(macC, "10.77.0.201") },
			},
			map[string]fleet.MAC{one: macB, two: macA, "10.77.0.201": macC},
		},
	}
	for name, tt := range tests {
		for _, each := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				ts := newTestServer(t, rackSubnet(fleet.Full))
				db := realLeases(t)
				ts.o.Leases, ts.clock = db, time.Now().Round(0) // as the store has it
				for _, step := range tt.steps {
					step(ts)
					if each {
						merge(t, db)
					}
				}
				for round := range 2 { // as it is, and after a restart
					if round == 1 {
						merge(t, db)
					}
					b := restarted(t, ts, db)
					for addr, mac := range tt.want {
						if l, ok := b.leaseByAddr(netip.MustParseAddr(addr)); !ok || l.MAC != mac {
							t.Errorf("after restart %d %s is %q's, want %s", round, addr, l.MAC, mac)
						}
					}
				}
				if n := db.RefusedLeases(); n != 0 {
					t.Errorf("%d leases were refused", n)
				}
			})
		}
	}
}

// half is one of two subnets of a wire, with two addresses to give.
func half(name, first string) fleet.Subnet {
	n := named(name)
	from := netip.MustParseAddr(first)
	n.CIDR, n.Link = netip.PrefixFrom(from, 25).Masked(), "wire"
	n.Ranges = []fleet.AddrRange{{First: from, Last: from.Next()}}
	return n
}

func merge(t *testing.T, db *store.Store) {
	t.Helper()
	if err := db.MergeLeases(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// restarted is the book of a server that begins with what the disk has.
func restarted(t *testing.T, ts *testServer, db *store.Store) *book {
	t.Helper()
	b := newBook(func() time.Time { return ts.clock })
	b.configure(ts.nets.Load().sorted, nil, func() {})
	if err := db.EachLease(t.Context(), func(l fleet.Lease) { b.load(l, false) }); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnlyWhatTakesAnotherLeasesPlaceCostsARecord(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.gets(macA, "10.77.0.100")
	leases := []fleet.Lease{
		{Addr: netip.MustParseAddr("10.77.0.100"), MAC: macA, State: fleet.LeaseBound},
		{Addr: netip.MustParseAddr("10.77.0.100"), MAC: macA, State: fleet.LeaseReleased},
		{Addr: netip.MustParseAddr("10.77.0.101"), MAC: macB, State: fleet.LeaseBound},
		{Addr: netip.MustParseAddr("10.99.0.101"), MAC: macC, State: fleet.LeaseBound},
	}
	if got := ts.book.ends(leases); len(got) != 0 {
		t.Errorf("ends = %v, want none", got)
	}
	if n := testing.AllocsPerRun(100, func() { ts.book.ends(leases) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// A client that a lease takes nothing from keeps what it has when the disk fails.
func TestALeaseThatIsNotStoredEndsNoOther(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.gets(macA, "10.77.0.100")
	ts.leases.broken = errDiskFull
	if got := ts.ask(packet(macA, request, wants("10.77.0.101"), chooses("10.77.0.1"))); got != nil {
		t.Fatalf("answer = %s, and nothing is stored", kindOf(got))
	}
	l, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.100"))
	if !ok || l.MAC != macA || len(ts.leases.byAddr) != 1 {
		t.Errorf("%+v, %v; on disk %v", l, ok, ts.leases.byAddr)
	}
}
