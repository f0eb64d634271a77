package relay

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/netns"
)

var (
	node6      = netip.MustParseAddr("fd78::50") // the address of machine A
	serverDUID = append([]byte{0, 4}, make([]byte, 16)...)
)

// A segment6 is a relay of IPv6 between a machine and a server.
type segment6 struct {
	*segment
	group netip.AddrPort   // that the machine writes to
	icmp  *ipv6.PacketConn // of the machine
	index int              // of its interface
}

func newSegment6(t *testing.T) *segment6 {
	t.Helper()
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0")
	ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "srv0")
	for _, args := range []string{
		"link set eth1 addrgenmode none", "link set eth1 up", "address add fe80::1/64 dev eth1 nodad", "address add fd78::1/64 dev eth1 nodad",
		"link set eth0 up", "address add fd77::2/64 dev eth0 nodad",
	} {
		ip(t, strings.Fields(args)...)
	}
	s := &segment6{segment: &segment{t: t, relay: relayBehind(t)}}
	s.machine, s.icmp, s.index = s.socketIn("nic0", machine6.String(), clientPort6)
	s.server, _, _ = s.socketIn("srv0", serverAddr6.Addr().String(), serverPort6, "fd78::/64", "via", "fd77::2")
	s.group = netip.AddrPortFrom(netip.MustParseAddr("ff02::1:2").WithZone(strconv.Itoa(s.index)), serverPort6)
	told := farSnapshot()
	told.DUID = hex.EncodeToString(serverDUID)
	told.Subnets = append(told.Subnets, api.RelaySubnet{Name: "far6", CIDR: netip.MustParsePrefix("fd78::/64"), Serves: true})
	told.Nodes[0].Other = node6 // it has an address of IPv4, too
	if err := s.relay.learn(told, "2"); err != nil {
		t.Fatal(err)
	}
	sock, err := listenDHCP6(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sock.hear(s.relay.ports()); err != nil {
		t.Fatal(err)
	}
	s.relay.socket, s.relay.socket6 = &socket{}, sock
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.relay.relayDHCP6(ctx, sock) }()
	t.Cleanup(func() {
		stop()
		_ = sock.conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// socketIn opens sockets on the far end of a link.
func (s *segment6) socketIn(link, addr string, port int, route ...string) (conn *net.UDPConn, icmp *ipv6.PacketConn, index int) {
	s.t.Helper()
	netns.Elsewhere(s.t, link, func() (err error) {
		commands := [][]string{{"link", "set", link, "addrgenmode", "none"}, {"link", "set", link, "up"}, {"address", "add", addr + "/64", "dev", link, "nodad"}}
		if len(route) > 0 {
			commands = append(commands, append([]string{"route", "add"}, route...))
		}
		for _, args := range commands {
			if err := netns.IP(args...); err != nil {
				return err
			}
		}
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		index = ifi.Index
		raw, err := new(net.ListenConfig).ListenPacket(s.t.Context(), "ip6:ipv6-icmp", "::")
		if err != nil {
			return err
		}
		icmp = ipv6.NewPacketConn(raw)
		conn, err = net.ListenUDP("udp6", &net.UDPAddr{Port: port})
		return err
	})
	s.t.Cleanup(func() { _, _ = conn.Close(), icmp.Close() })
	return conn, icmp, index
}

// asks sends a message of machine A for its association.
func (s *segment6) asks(kind byte, more ...byte) {
	s.t.Helper()
	p := appendOption6(packet6{kind, 7, 8, 9}, 1, append([]byte{0, 3, 0, 1}, macA[:]...))
	p = append(appendOption6(p, 3, make([]byte, 12)), more...)
	if _, err := s.machine.WriteToUDPAddrPort(p, s.group); err != nil {
		s.t.Fatal(err)
	}
}

// TestKnownNodesOfIPv6GoOnWhileTheServerIsAway takes a node through its DHCPv6,
// and hands over when the server is back.
func TestKnownNodesOfIPv6GoOnWhileTheServerIsAway(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment6(t)
	s.relay.away.Store(true)
	var offer packet
	await(t, "an ADVERTISE", func() bool { // new links lose the first packets
		s.asks(1)
		offer, _ = s.hearsWithin(s.machine, 300*time.Millisecond)
		return offer != nil
	})
	if offer[0] != typeAdvertise6 || !bytes.Contains(offer, node6.AsSlice()) || !bytes.Contains(offer, serverDUID) {
		t.Fatalf("the machine got %x, want its address, in the server's name", offer)
	}
	s.asks(3, appendOption6(nil, 2, serverDUID)...)
	reply, _ := s.hears(s.machine)
	for reply != nil && reply[0] == typeAdvertise6 { // it has asked more than once
		reply, _ = s.hears(s.machine)
	}
	if reply == nil || reply[0] != typeReply6 || !bytes.Contains(reply, node6.AsSlice()) {
		t.Fatalf("the machine got %x, want its address", reply)
	}
	s.silent(s.server, "the server, which is away, was asked")

	s.relay.away.Store(false)
	over := make(chan struct{})
	go func() { s.relay.handOver(t.Context()); close(over) }()
	if lost, _ := s.hears(s.server); lost == nil { // without an answer it is asked for again
		t.Fatal("nothing was handed over")
	}
	up, from := s.hears(s.server)
	if up == nil || up[0] != typeForward6 {
		t.Fatalf("handed over with %x", up)
	}
	answer := append(packet6{typeAnswer6}, up[1:]...)
	e, whole := unwrap(answer)
	if !whole || e.peer != machine6 || e.link != link6 || e.message.kind() != 3 || !bytes.Contains(e.message, serverDUID) || e.message.xid() == 0x070809 {
		t.Fatalf("handed over with %x", up)
	}
	e.message[0] = typeReply6
	if _, err := s.server.WriteToUDPAddrPort(answer, from); err != nil {
		t.Fatal(err)
	}
	s.silent(s.machine, "the machine got the answer to what it never asked")
	<-over
	s.relay.mu.Lock()
	if len(s.relay.granted) != 0 {
		t.Errorf("%v is kept although the server has confirmed it", s.relay.granted)
	}
	s.relay.mu.Unlock()
	if s.relay.stats.away.Load() < 2 {
		t.Errorf("%d answers were given alone, want two", s.relay.stats.away.Load())
	}
}

// TestWhatANodeOfIPv6GivesBackIsHandedOverToo has a node that gets its address
// alone and releases it.
func TestWhatANodeOfIPv6GivesBackIsHandedOverToo(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment6(t)
	s.relay.away.Store(true)
	named := appendOption6(nil, 2, serverDUID)
	await(t, "a REPLY", func() bool { // new links lose the first packets
		s.asks(3, named...)
		reply, _ := s.hearsWithin(s.machine, 300*time.Millisecond)
		return reply != nil && reply[0] == typeReply6
	})
	ia := appendOption6(packet6(make([]byte, 12)), 5, append(node6.AsSlice(), make([]byte, 8)...))
	s.asks(typeRelease6, append(named, appendOption6(nil, 3, ia)...)...)
	s.hears(s.machine)
	s.relay.away.Store(false)
	over := make(chan struct{})
	go func() {
		for range 3 { // new links keep what is sent for a second
			s.relay.handOver(t.Context())
		}
		close(over)
	}()
	var kinds []byte
	for range 9 { // an answer may be lost too
		up, from := s.hears(s.server)
		answer := append(packet6{typeAnswer6}, up[min(1, len(up)):]...)
		e, whole := unwrap(answer)
		if !whole || e.peer != machine6 || e.message.xid() == 0x070809 {
			t.Fatalf("handed over with %x after %v", up, kinds)
		}
		kinds = append(kinds, e.message.kind())
		e.message[0] = typeReply6
		if _, err := s.server.WriteToUDPAddrPort(answer, from); err != nil {
			t.Fatal(err)
		}
		if kinds[len(kinds)-1] == typeRelease6 {
			break
		}
	}
	if kinds[0] != 3 || kinds[len(kinds)-1] != typeRelease6 {
		t.Errorf("handed over with messages of types %v, want a REQUEST and then a RELEASE", kinds)
	}
	s.silent(s.machine, "the machine got the answer to what it never asked")
	<-over
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if len(s.relay.granted) != 0 {
		t.Errorf("%v is kept although the server heard of all", s.relay.granted)
	}
}
