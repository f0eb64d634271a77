package relay

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
)

func ip(t *testing.T, args ...string) {
	t.Helper()
	if err := netns.IP(args...); err != nil {
		t.Fatal(err)
	}
}

// socketIn opens a UDP socket in a network namespace that has nothing but one
// end of a link. The socket keeps the namespace alive.
func socketIn(t *testing.T, link, addr string, port int) (conn *net.UDPConn) {
	t.Helper()
	netns.Elsewhere(t, link, func() (err error) {
		for _, args := range [][]string{{"address", "add", addr, "dev", link}, {"link", "set", link, "up"}, {"route", "add", "default", "dev", link}} {
			if err := netns.IP(args...); err != nil {
				return err
			}
		}
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A segment is a relay with a machine on one side and a server on the other.
type segment struct {
	t               *testing.T
	relay           *Relay
	machine, server *net.UDPConn
}

func newSegment(t *testing.T) *segment {
	t.Helper()
	return newSegmentFrom(t, 68)
}

// newSegmentFrom has a machine that speaks from a port.
func newSegmentFrom(t *testing.T, port int) *segment {
	t.Helper()
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0")
	ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "srv0")
	for _, args := range []string{"address add 10.78.0.1/24 dev eth1", "link set eth1 up", "address add 10.77.0.2/24 dev eth0", "link set eth0 up"} {
		ip(t, strings.Fields(args)...)
	}
	s := &segment{t: t, machine: socketIn(t, "nic0", "10.78.0.50/24", port), server: socketIn(t, "srv0", "10.77.0.1/24", 67)}
	r := relayBehind(t)
	sock, err := listenDHCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.socket, s.relay = sock, r
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.relayDHCP(ctx, sock) }()
	t.Cleanup(func() {
		stop()
		_ = sock.conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.awaitLinks()
	return s
}

// relayBehind is a relay with machines on its interface eth1.
func relayBehind(t *testing.T) *Relay {
	t.Helper()
	r := &Relay{
		o: Options{Interfaces: []string{"eth1"}, Log: slog.New(slog.DiscardHandler), Now: time.Now}, id: &identity{Name: "west", dir: t.TempDir()},
		granted: map[netip.Addr]grant{}, asked: map[transaction]question{}, keeping: make(chan kept, 1), cache: newCache(t, t.TempDir(), 1<<20),
	}
	r.rules = newRules("west", serverAddr, false, time.Now, &r.stats)
	r.rules6 = newRules6(serverAddr6, false, time.Now, &r.stats)
	if err := r.findPorts(); err != nil {
		t.Fatal(err)
	}
	r.others = r.newWatch()
	if err := r.learn(farSnapshot(), "1"); err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitLinks returns when packets pass: new links lose the first ones.
func (s *segment) awaitLinks() {
	s.t.Helper()
	for i := range 50 {
		s.says(discover(set(atCHAddr, 2, 0, 0, 0, 0, byte(i))))
		if up, _ := s.hearsWithin(s.server, 100*time.Millisecond); up != nil {
			for up != nil {
				up, _ = s.hearsWithin(s.server, 100*time.Millisecond)
			}
			return
		}
	}
	s.t.Fatal("nothing passes the links")
}

// farSnapshot has one node, which is active and has its address.
func farSnapshot() api.RelaySnapshot {
	return api.RelaySnapshot{
		Name: "west", BootPort: 80, AgentPort: 8443,
		Subnets: []api.RelaySubnet{{Name: "far", CIDR: netip.MustParsePrefix("10.78.0.0/24"), Serves: true, Router: netip.MustParseAddr("10.78.0.1")}},
		Nodes: []api.RelayNode{
			{ID: "n-0000000001", Name: "far-1", MACs: []string{hardware(macA)}, State: string(fleet.Active), Installed: true, Addr: netip.MustParseAddr("10.78.0.50")},
			{ID: "n-0000000002", Name: "far-2", MACs: []string{"52:54:00:00:00:0c"}, State: string(fleet.Ready), Addr: netip.MustParseAddr("10.78.0.51")},
		},
	}
}

// says sends a machine's packet as firmware does.
func (s *segment) says(p packet) {
	s.t.Helper()
	if _, err := s.machine.WriteToUDPAddrPort(p, netip.MustParseAddrPort("255.255.255.255:67")); err != nil {
		s.t.Fatal(err)
	}
}

// hears waits for a packet; nil when none comes.
func (s *segment) hears(c *net.UDPConn) (packet, netip.AddrPort) {
	s.t.Helper()
	return s.hearsWithin(c, 5*time.Second)
}

// silent waits a moment for a packet that shall not come.
func (s *segment) silent(c *net.UDPConn, what string) {
	s.t.Helper()
	if p, _ := s.hearsWithin(c, 200*time.Millisecond); p != nil {
		s.t.Errorf("%s: %x", what, p)
	}
}

func (s *segment) hearsWithin(c *net.UDPConn, d time.Duration) (packet, netip.AddrPort) {
	s.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, from
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return buf[:n], from
}

func TestARelayOnTheWire(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment(t)

	s.says(discover())
	up, from := s.hears(s.server)
	if up == nil || up.giaddr() != eth1.addr.Addr() || !up.hasInfo() || from.String() != "10.78.0.1:67" {
		t.Fatalf("the server got %x from %v", up, from)
	}
	answer := append(packet(nil), up...)
	answer[atOp] = bootReply
	s.answers(answer)
	if down, _ := s.hears(s.machine); down == nil || down.hasInfo() || down.op() != bootReply {
		t.Errorf("the machine got %x", down)
	}

	s.says(discover(set(atCookie, 0, 0, 0, 0)))
	if up, _ := s.hears(s.server); up == nil || up.giaddr() != eth1.addr.Addr() || !up.plain() {
		t.Errorf("of plain BOOTP the server got %x", up)
	}

	for name, p := range map[string]packet{
		"option 82 of its own": discover(with(82, 1, 1, 'x')), "a giaddr": discover(set(atGIAddr, 10, 9, 9, 1)),
		"our giaddr": discover(set(atGIAddr, 10, 78, 0, 1)), "too many hops": discover(set(atHops, 200)), "no DHCP": []byte("hello"),
		"a server's answer": reply(),
	} {
		s.says(p)
		s.silent(s.server, "a packet with "+name+" was passed on")
	}
	s.answers(reply(set(atGIAddr, 10, 99, 0, 1)))
	s.answers(discover(set(atGIAddr, 10, 78, 0, 1))) // a request from the server's side
	s.silent(s.machine, "the machine got what is not for it")
}

// TestASubnetOfIPv6IsServedOnceTheServerTellsOfIt has an address of IPv6 before
// that.
func TestASubnetOfIPv6IsServedOnceTheServerTellsOfIt(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment(t)
	ip(t, "address", "add", "fd78::1/64", "dev", "eth1") // its check takes a second
	await(t, "sure of an address", func() bool {
		_, err := s.relay.lookAgain()
		return err == nil && s.relay.isOurs6(link6)
	})
	if places := s.relay.reportNow(nil).Places; len(places) != 1 {
		t.Errorf("places %v before the server has told of a subnet of IPv6", places)
	}
	told := farSnapshot()
	told.Subnets = append(told.Subnets, api.RelaySubnet{Name: "far6", CIDR: netip.MustParsePrefix("fd78::/64"), Serves: true})
	if err := s.relay.learn(told, "2"); err != nil {
		t.Fatal(err)
	}
	if places := s.relay.reportNow(nil).Places; len(places) != 2 || places[1] != (api.RelayPlace{Subnet: "far6", Addr: link6}) {
		t.Errorf("places %v, want %v too", places, link6)
	}
	if link, ok := s.relay.linkOf(s.relay.ports()[0]); !ok || link != link6 {
		t.Errorf("requests of IPv6 go up from %v, %v", link, ok)
	}
}

func (s *segment) answers(p packet) {
	s.t.Helper()
	if _, err := s.server.WriteToUDPAddrPort(p, netip.MustParseAddrPort("10.78.0.1:67")); err != nil {
		s.t.Fatal(err)
	}
}

// TestAFloodCostsNobodyElse sends what a hundred thousand machines cannot mean,
// and all the while others ask, one after the other, and are answered.
func TestAFloodCostsNobodyElse(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	const liars = 100_000
	s := newSegment(t)
	sent, end := s.flood()
	defer end()
	answered := s.answersOthers()
	var slowest time.Duration
	good := 0
	for ; good < 20 || sent.Load() < liars; good++ {
		began := time.Now()
		mac := [6]byte{0x52, 0x54, 1, 0, byte(good >> 8), byte(good)}
		for !s.isAnswered(mac) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("after %d packets of a flood a machine is not served within 10 s", sent.Load())
			}
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%d packets of a flood, the server got %d; %d machines were answered meanwhile, the slowest within %s", sent.Load(), answered.Load(), good, slowest)
	if slowest > time.Second {
		t.Errorf("the slowest of %d machines was answered within %s, want a second", good, slowest)
	}
}

// flood sends DISCOVERs, each of another MAC address, and what is left of such
// ones, until it is ended: five thousand a second, more than a hundred racks send
// that are switched on at once.
func (s *segment) flood() (sent *atomic.Int64, end func()) {
	sent, stop := new(atomic.Int64), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick, began := time.NewTicker(time.Millisecond), time.Now()
		defer tick.Stop()
		for n := int64(0); ; n = sent.Add(1) {
			for time.Since(began) < time.Duration(n)*time.Second/5_000 {
				<-tick.C
			}
			select {
			case <-stop:
				return
			default:
			}
			p := discover(set(atCHAddr, 0x52, 0x54, 2, byte(n>>16), byte(n>>8), byte(n)))
			if n%4 == 3 {
				p = p[:n%300]
			}
			_, _ = s.machine.WriteToUDPAddrPort(p, netip.MustParseAddrPort("255.255.255.255:67"))
		}
	})
	return sent, func() { close(stop); done.Wait() }
}

// answersOthers is a server that answers who is none of the flood, and counts what
// it gets.
func (s *segment) answersOthers() (got *atomic.Int64) {
	s.t.Helper()
	got = new(atomic.Int64)
	if err := errors.Join(s.server.SetReadBuffer(8<<20), s.server.SetReadDeadline(time.Time{})); err != nil {
		s.t.Fatal(err)
	}
	go func() { // until the socket is closed
		buf := make([]byte, 2048)
		for {
			n, err := s.server.Read(buf)
			if err != nil {
				return
			}
			got.Add(1)
			p := packet(buf[:n])
			if mac := p.mac(); mac[2] == 1 {
				p[atOp] = bootReply
				_, _ = s.server.WriteToUDPAddrPort(p, netip.MustParseAddrPort("10.78.0.1:67"))
			}
		}
	}()
	return got
}

// isAnswered asks once, and waits a fifth of a second.
func (s *segment) isAnswered(mac [6]byte) bool {
	s.t.Helper()
	s.says(discover(set(atCHAddr, mac[:]...)))
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); {
		if down, _ := s.hearsWithin(s.machine, time.Until(until)); down != nil && down.mac() == mac {
			return true
		}
	}
	return false
}

// TestKnownNodesGoOnWhileTheServerIsAway takes a node through its DHCP, and
// hands over when the server is back.
func TestKnownNodesGoOnWhileTheServerIsAway(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment(t)
	s.relay.away.Store(true)
	s.says(discover(set(atOptions+2, 1))) // DISCOVER
	offer, from := s.hears(s.machine)
	if offer == nil || offer.addr(atYIAddr).String() != "10.78.0.50" || from.String() != "10.78.0.1:67" {
		t.Fatalf("offer %x from %v, want one of 10.78.0.50", offer, from)
	}
	if lease, _ := offer.find(51); len(lease) != 4 || lease[2] != 600>>8 || lease[3] != 600&0xff {
		t.Errorf("the lease is of %x seconds, want 600", lease)
	}
	s.says(discover())
	ack, _ := s.hears(s.machine)
	if ack == nil || ack.kind() != 5 || ack.addr(atYIAddr).String() != "10.78.0.50" {
		t.Fatalf("answer %x, want an ACK of 10.78.0.50", ack)
	}
	s.says(discover(set(atOptions+2, 1), set(atCHAddr, 0x52, 0x54, 0, 0, 0, 0x0b)))
	s.silent(s.machine, "a stranger was answered")
	s.silent(s.server, "the server, which is away, was asked")

	s.relay.away.Store(false)
	over := make(chan struct{})
	go func() { s.relay.handOver(t.Context()); close(over) }()
	if lost, _ := s.hears(s.server); lost == nil { // without an answer it is asked for again
		t.Fatal("nothing was handed over")
	}
	up, _ := s.hears(s.server)
	want, _ := up.find(optionRequested)
	if up == nil || up.mac() != macA || netip.AddrFrom4([4]byte(want)).String() != "10.78.0.50" || up.giaddr() != eth1.addr.Addr() {
		t.Fatalf("handed over with %x", up)
	}
	ackUp := append(packet(nil), up...)
	ackUp[atOp] = bootReply
	s.answers(ackUp)
	s.silent(s.machine, "the machine got the answer to what it never asked")
	<-over
	if len(s.relay.granted) != 0 {
		t.Errorf("%v is kept although the server has confirmed it", s.relay.granted)
	}
}

// TestWhatANodeGivesBackIsHandedOverToo has a node that gets its address alone,
// and finds that another machine has it too.
func TestWhatANodeGivesBackIsHandedOverToo(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment(t)
	s.relay.away.Store(true)
	s.says(discover(set(atOptions+2, 1)))
	s.hears(s.machine)
	s.says(discover())
	if ack, _ := s.hears(s.machine); ack == nil || ack.kind() != 5 {
		t.Fatalf("answer %x, want an ACK", ack)
	}
	s.says(discover(set(atOptions+2, typeDecline), with(optionServer, 10, 78, 0, 1)))
	s.says(discover(set(atOptions+2, typeDecline), set(atCHAddr, 0x52, 0x54, 0, 0, 0, 0x0b))) // another one's business
	s.silent(s.machine, "a DECLINE was answered")
	s.relay.away.Store(false)
	over := make(chan struct{})
	go func() { s.relay.handOver(t.Context()); s.relay.handOver(t.Context()); close(over) }()
	up, _ := s.hears(s.server)
	if up == nil || up.kind() != typeRequest {
		t.Fatalf("handed over with %x, want a REQUEST first", up)
	}
	up[atOp] = bootReply
	s.answers(up)
	up, _ = s.hears(s.server)
	if v, _ := up.find(optionRequested); up == nil || up.kind() != typeDecline || up.mac() != macA || !bytes.Equal(v, []byte{10, 78, 0, 50}) || up.giaddr() != eth1.addr.Addr() {
		t.Fatalf("handed over with %x, want the DECLINE", up)
	}
	<-over
	if len(s.relay.granted) != 0 {
		t.Errorf("%v is kept although the server heard of all", s.relay.granted)
	}
}

func TestANodeThatWantsItsAddressAgainKeepsIt(t *testing.T) {
	addr := netip.MustParseAddr("10.78.0.50")
	tests := map[string]struct {
		away bool
		kind byte
		from [6]byte
		ends bool // it is still to be given back
		left bool
	}{
		"it asks the server":           {false, typeRequest, macA, false, false},
		"it asks, and nobody is there": {true, typeRequest, macA, true, true},
		"another machine asks":         {false, typeRequest, [6]byte{2}, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &Relay{granted: map[netip.Addr]grant{addr: {who: hardware(macA)}}}
			r.watch(discover(set(atOptions+2, typeRelease)))
			r.away.Store(tt.away)
			r.watch(discover(set(atOptions+2, tt.kind), set(atCHAddr, tt.from[:]...)))
			if g, left := r.granted[addr]; left != tt.left || (g.end != nil) != tt.ends {
				t.Errorf("kept: %v, %+v; want %v, to be given back %v", left, g, tt.left, tt.ends)
			}
		})
	}
}
