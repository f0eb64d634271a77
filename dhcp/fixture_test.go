package dhcp

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// knownNodes is a fleet in memory.
type knownNodes map[fleet.MAC]fleet.Node

func (k knownNodes) NodeByMAC(mac fleet.MAC) (fleet.Node, bool) {
	n, ok := k[mac]
	return n, ok
}

// memoryLeases keeps leases as the store does: one per address, and one bound
// lease per client and subnet.
type memoryLeases struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]fleet.Lease
	broken error
	saves  int
}

func (m *memoryLeases) EachLease(_ context.Context, do func(fleet.Lease)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range slices.SortedFunc(maps.Keys(m.byAddr), netip.Addr.Compare) {
		do(m.byAddr[a])
	}
	return nil
}

func (m *memoryLeases) SaveLeases(_ context.Context, leases []fleet.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.broken != nil {
		return m.broken
	}
	if m.byAddr == nil {
		m.byAddr = make(map[netip.Addr]fleet.Lease)
	}
	for _, l := range leases {
		for a, old := range m.byAddr {
			if old.MAC == l.MAC && old.Subnet == l.Subnet && old.State == fleet.LeaseBound && l.State == fleet.LeaseBound {
				delete(m.byAddr, a)
			}
		}
		m.byAddr[l.Addr] = l
	}
	return nil
}

var errDiskFull = errors.New("disk full")

// seen is an observer that remembers.
type seen struct {
	mu     sync.Mutex
	events []fleet.Evidence
}

func (s *seen) Observe(ev fleet.Evidence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, ev)
}

func (s *seen) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return ""
	}
	return s.events[len(s.events)-1].Detail
}

// raised is the alarms that stand, with their details.
type raised struct {
	mu    sync.Mutex
	stand map[string]string
	told  int
}

func (r *raised) Raise(code, on, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stand == nil {
		r.stand = make(map[string]string)
	}
	r.stand[code+" "+on] = detail
	r.told++
}

func (r *raised) Clear(code, on string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.stand, code+" "+on)
}

// detail returns what an alarm says; "" when it does not stand.
func (r *raised) detail(code, on string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stand[code+" "+on]
}

// bench is a server without sockets, with one interface that has 10.77.0.1/24.
type testServer struct {
	*Server
	t      testing.TB
	nodes  knownNodes
	leases *memoryLeases
	seen   *seen
	alarms *raised
	clock  time.Time
	sent   []reply
	commit *committer
	scene  scene
}

// takeStock raises and clears the alarms about how full subnets are.
func (ts *testServer) takeStock(sample bool) {
	usage.Check(ts.Server.alarms, ts.book.use(sample))
}

const testIfindex = 7

func rackSubnet(mode fleet.DHCPMode) fleet.Subnet {
	return fleet.Subnet{
		Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: mode,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.77.0.100"), Last: netip.MustParseAddr("10.77.0.103")}},
		Router: netip.MustParseAddr("10.77.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.77.0.1")},
		Domain: "rack.example", Lease: 600, UnknownLease: 600, UnknownShare: 100,
	}
}

func newTestServer(tb testing.TB, subnets ...fleet.Subnet) *testServer {
	tb.Helper()
	ts := &testServer{
		t: tb, nodes: make(knownNodes), leases: &memoryLeases{}, seen: &seen{}, alarms: &raised{},
		clock: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
	}
	ts.start(subnets...)
	return ts
}

// start makes a new server on the same leases, as a restart does.
func (ts *testServer) start(subnets ...fleet.Subnet) {
	ts.t.Helper()
	s, err := New(Options{
		Subnets: subnets, Nodes: ts.nodes, Leases: ts.leases, Observer: ts.seen, Alarms: ts.alarms,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return ts.clock },
	})
	if err != nil {
		ts.t.Fatal(err)
	}
	own := netip.MustParsePrefix("10.77.0.1/24")
	s.links.Put(links.Link{Index: testIfindex, Prefixes: []netip.Prefix{own}})
	s.book.reconfigure(s.links.Owned())
	if _, err := s.load(ts.t.Context()); err != nil {
		ts.t.Fatal(err)
	}
	ts.Server = s
	ts.commit = newCommitter(s, func(out []reply) { ts.sent = append(ts.sent, out...) })
}

func byBroadcast() arrival {
	return arrival{ifindex: testIfindex, from: netip.MustParseAddrPort("0.0.0.0:68"), to: broadcast}
}

// handle is the server's, with a scene of its own.
func (ts *testServer) handle(b []byte, a arrival) (reply, bool) {
	return ts.Server.handle(&ts.scene, b, a)
}

// put hands a packet to the server, stores its lease if it makes one, and
// returns the answer; nil for silence.
func (ts *testServer) put(b []byte, a arrival) (*dhcpv4.DHCPv4, reply) {
	ts.t.Helper()
	ts.sent = nil
	r, ok := ts.handle(b, a)
	switch {
	case !ok:
		return nil, reply{}
	case r.lease.State != "":
		ts.commit.Commit(ts.t.Context(), []reply{r})
		if len(ts.sent) == 0 {
			return nil, r
		}
		r = ts.sent[0]
	}
	msg, err := dhcpv4.FromBytes(readable(b, r.packet))
	if err != nil {
		ts.t.Fatalf("our answer cannot be read: %v", err)
	}
	return msg, r
}

// readable returns an answer without what an old ROM's maker wrote where
// options would be: we send that back, and only the ROM can read it.
func readable(asked, answer []byte) []byte {
	var in message
	if in.parse(asked) != nil || !in.vendorFormat() {
		return answer
	}
	return slices.Concat(answer[:atCookie], []byte{99, 130, 83, 99, dhcpv4.OptionEnd.Code()})
}

func (ts *testServer) ask(msg *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	ts.t.Helper()
	answer, _ := ts.put(msg.ToBytes(), byBroadcast())
	return answer
}

const (
	macA fleet.MAC = "52:54:00:00:00:0a"
	macB fleet.MAC = "52:54:00:00:00:0b"
)

// packet makes a client's packet; each change sets something in it.
func packet(mac fleet.MAC, kind dhcpv4.MessageType, changes ...func(*dhcpv4.DHCPv4)) *dhcpv4.DHCPv4 {
	msg, err := dhcpv4.New(dhcpv4.WithHwAddr(mac.Hardware()), dhcpv4.WithMessageType(kind))
	if err != nil {
		panic(err)
	}
	for _, change := range changes {
		change(msg)
	}
	return msg
}

func wants(addr string) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.Options[50] = net.ParseIP(addr).To4() }
}

func chooses(server string) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.Options[54] = net.ParseIP(server).To4() }
}

func has(addr string) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = net.ParseIP(addr).To4() }
}

func relayed(by string) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.GatewayIPAddr = net.ParseIP(by).To4() }
}

func option(code uint8, value string) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.Options[code] = []byte(value) }
}

func firmware(class string, arch uint8) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) {
		m.Options[60] = []byte(class)
		m.Options[93] = []byte{0, arch}
	}
}

// lease does the four-way exchange and returns the address.
func (ts *testServer) lease(mac fleet.MAC) string {
	ts.t.Helper()
	offer := ts.ask(packet(mac, dhcpv4.MessageTypeDiscover))
	if offer == nil {
		ts.t.Fatalf("no offer for %s", mac)
	}
	addr := offer.YourIPAddr.String()
	ack := ts.ask(packet(mac, dhcpv4.MessageTypeRequest, wants(addr), chooses("10.77.0.1")))
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || ack.YourIPAddr.String() != addr {
		ts.t.Fatalf("REQUEST for %s = %v, want an ACK", addr, ack)
	}
	return addr
}
