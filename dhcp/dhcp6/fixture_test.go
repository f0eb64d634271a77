package dhcp6

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

const (
	rackIndex = 3
	theMAC    = fleet.MAC("52:54:00:7e:f7:34")
)

var (
	start    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	serverIP = netip.MustParseAddr("fd98::1")
	localIP  = netip.MustParseAddr("fe80::1")
	machine  = netip.MustParseAddr("fe80::5054:ff:fe7e:f734")
)

func rack6() fleet.Subnet {
	return fleet.Subnet{
		Name: "rack6", CIDR: netip.MustParsePrefix("fd98::/64"), Mode: fleet.Full, Lease: 3600,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("fd98::1000"), Last: netip.MustParseAddr("fd98::1fff")}},
		DNS:    []netip.Addr{netip.MustParseAddr("fd98::53")}, NTP: []netip.Addr{netip.MustParseAddr("fd98::123")}, Domain: "rack.example",
	}
}

func remote6() fleet.Subnet {
	n := rack6()
	n.Name, n.CIDR, n.Relays = "remote6", netip.MustParsePrefix("fd99::/64"), []netip.Addr{theRelay, theSwitch}
	n.Ranges = []fleet.AddrRange{{First: netip.MustParseAddr("fd99::1000"), Last: netip.MustParseAddr("fd99::1fff")}}
	return n
}

// nodes is a fleet in memory.
type nodes map[fleet.MAC]fleet.Node

func (n nodes) NodeByMAC(mac fleet.MAC) (fleet.Node, bool) { v, ok := n[mac]; return v, ok }

// ledgerFile keeps leases as the store does, and fails when told to.
type ledgerFile struct {
	mu    sync.Mutex
	saved []fleet.Lease6
	full  bool
	now   func() time.Time
}

// Leases6 returns the last lease of each address.
func (f *ledgerFile) Leases6(context.Context) ([]fleet.Lease6, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := make(map[netip.Addr]fleet.Lease6)
	for _, l := range f.saved {
		last[l.Addr] = l
	}
	return slices.Collect(maps.Values(last)), nil
}

func (f *ledgerFile) SaveLeases6(_ context.Context, leases []fleet.Lease6) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return errors.New("no space left on device")
	}
	all := slices.Clone(f.saved)
	for _, l := range leases {
		if stands, ok := f.holder(all, l); ok {
			return &fleet.Error{Kind: fleet.Conflict, Err: &fleet.HeldError{Stands: stands, Refused: l}}
		}
		all = append(slices.DeleteFunc(all, func(o fleet.Lease6) bool { // one client has one address on a subnet
			return o.State == fleet.LeaseBound && l.State == fleet.LeaseBound && o.Addr != l.Addr && clientOf(o).key() == clientOf(l).key() && o.Subnet == l.Subnet
		}), l)
	}
	f.saved = all
	return nil
}

// holder returns the lease of another client who holds an address.
func (f *ledgerFile) holder(all []fleet.Lease6, l fleet.Lease6) (stands fleet.Lease6, ok bool) {
	for _, o := range all {
		if o.Addr == l.Addr {
			stands = o
		}
	}
	return stands, stands.State == fleet.LeaseBound && stands.Expires.After(f.now()) && clientOf(stands).key() != clientOf(l).key()
}

func (f *ledgerFile) ForgetLeases6(context.Context, time.Time) error { return nil }

// notes keeps evidence and alarms.
type notes struct {
	seen   []fleet.Evidence
	raised []string
	detail string // of the last
	broken bool   // fails at the next evidence
}

func (n *notes) Observe(ev fleet.Evidence) {
	if n.broken {
		panic("a bug")
	}
	n.seen = append(n.seen, ev)
}

func (n *notes) Raise(code, on, detail string) {
	n.raised, n.detail = append(n.raised, code+" "+on), detail
}

func (n *notes) Clear(code, on string) {
	n.raised = slices.DeleteFunc(n.raised, func(r string) bool { return r == code+" "+on })
}

// A bench is a server without a network.
type bench struct {
	*Server
	notes *notes
	file  *ledgerFile
	nodes nodes
	clock time.Time
	out   []reply // what the committer sent last
}

func newBench(tb testing.TB, subnets ...fleet.Subnet) *bench {
	tb.Helper()
	if len(subnets) == 0 {
		subnets = []fleet.Subnet{rack6(), remote6()}
	}
	b := &bench{notes: &notes{}, file: &ledgerFile{}, nodes: nodes{}, clock: start}
	b.file.now = func() time.Time { return b.clock }
	s, err := New(Options{
		Subnets: subnets, Nodes: b.nodes, Leases: b.file, Observer: b.notes, Alarms: b.notes,
		ServerID: [16]byte{1, 2, 3}, Now: func() time.Time { return b.clock },
	})
	if err != nil {
		tb.Fatal(err)
	}
	b.Server = s
	b.wire()
	return b
}

// wire puts the server on its network.
func (b *bench) wire() {
	s := b.Server
	s.links.Put(theLink())
	s.book.reconfigure(s.links.Owned())
}

// restart makes a server that knows what is on disk only.
func (b *bench) restart(tb testing.TB) {
	tb.Helper()
	o := b.o
	o.Subnets = b.declared()
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	b.Server = s
	b.wire()
	if err := s.load(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// takeStock raises and clears alarms as it is done every few seconds.
func (b *bench) takeStock(sample bool) {
	usage.Check(b.alarms, b.book.use(sample))
	b.alarms.Expire()
}

// ask hands a packet in and returns the answer, after its leases are stored.
func (b *bench) ask(tb testing.TB, raw []byte, a arrival) dhcpv6.DHCPv6 {
	tb.Helper()
	r, ok := b.handle(raw, a)
	if !ok {
		return nil
	}
	b.out = []reply{r}
	if len(r.leases) > 0 {
		c := newCommitter(b.Server, func(out []reply) { b.out = slices.Clone(out) })
		c.Commit(tb.Context(), []reply{r})
		if len(b.out) == 0 {
			return nil
		}
	}
	d, err := dhcpv6.FromBytes(b.out[0].packet)
	if err != nil {
		tb.Fatalf("our own answer: %v", err)
	}
	return d
}

// direct is how a packet of a machine on our own wire arrives.
func direct(from netip.Addr) arrival {
	return arrival{ifindex: rackIndex, from: netip.AddrPortFrom(from.WithZone("rack0"), clientPort), to: allServers}
}
