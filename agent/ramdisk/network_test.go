package ramdisk

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A fakeDHCP answers on the other end of a cable. It drops its first
// messages, and offers rubbish before what is good.
type fakeDHCP struct {
	conn *net.UDPConn

	mu   sync.Mutex
	drop int
	nak  bool // the next REQUEST is refused
	seen []dhcpv4.MessageType
}

func (s *fakeDHCP) serve() {
	buf := make([]byte, 2048)
	for {
		n, _, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue
		}
		s.answer(m)
	}
}

func (s *fakeDHCP) answer(m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, m.MessageType())
	if s.drop--; s.drop >= 0 {
		return
	}
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
		if s.nak {
			kind, s.nak = dhcpv4.MessageTypeNak, false
		}
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 9)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))))
	if err != nil {
		return
	}
	other := *reply
	other.TransactionID[0]++
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	for _, b := range [][]byte{{1, 2, 3}, other.ToBytes(), reply.ToBytes()} {
		_, _ = s.conn.WriteToUDP(b, to)
	}
}

// cable makes a network namespace of this test's own with two cards on one
// cable. It needs root.
func cable(t *testing.T) (client, server *net.Interface) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make network namespace: %v (this test needs root)", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "client0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "server0"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"client0", "server0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	// Both ends are one machine: its own address comes in from outside.
	for name, value := range map[string]string{"all/accept_local": "1", "all/rp_filter": "0", "server0/rp_filter": "0", "client0/rp_filter": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	client, err := net.InterfaceByName("client0")
	if err != nil {
		t.Fatal(err)
	}
	server, err = net.InterfaceByName("server0")
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestCardGetsAnAddressFromASlowServer(t *testing.T) {
	done := make(chan struct{})
	go func() { // a goroutine of its own: its thread is in another namespace
		defer close(done)
		leaseOverCable(t)
	}()
	<-done
}

func leaseOverCable(t *testing.T) {
	client, server := cable(t)
	lc := net.ListenConfig{Control: bindTo(server.Name)}
	conn, err := lc.ListenPacket(t.Context(), "udp4", ":67")
	if err != nil {
		t.Error(err)
		return
	}
	fake := &fakeDHCP{conn: conn.(*net.UDPConn), drop: 1, nak: true}
	served := make(chan struct{})
	go func() { defer close(served); fake.serve() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := Network{}
	c, err := newDHCPClient(ctx, client)
	if err != nil {
		t.Error(err)
		return
	}
	lease, err := c.acquire(ctx)
	c.close()
	if err != nil {
		t.Errorf("acquire = %v", err)
		return
	}
	want := netip.MustParsePrefix("192.0.2.9/24")
	if lease.Prefix != want || lease.Router != netip.MustParseAddr("192.0.2.1") || lease.Time != time.Hour {
		t.Errorf("lease = %+v, want %v for an hour by 192.0.2.1", lease, want)
	}
	if err := configure(lease); err != nil {
		t.Errorf("configure = %v", err)
	}
	addrs, err := client.Addrs()
	if err != nil || len(addrs) == 0 || addrs[0].String() != want.String() {
		t.Errorf("the card has %v (%v), want %v", addrs, err, want)
	}
	again, err := n.ask(ctx, client, lease, true)
	if err != nil || again.Prefix != want {
		t.Errorf("renewed = %v (%v), want %v", again.Prefix, err, want)
	}
	fake.mu.Lock()
	fake.nak = true
	fake.mu.Unlock()
	if _, err := n.ask(ctx, client, lease, true); !errors.Is(err, errNak) {
		t.Errorf("renew of a lost lease = %v, want %v", err, errNak)
	}
	_ = conn.Close()
	<-served
	if kinds := fake.seen; kinds[0] != dhcpv4.MessageTypeDiscover || kinds[1] != dhcpv4.MessageTypeDiscover {
		t.Errorf("the first messages were %v, want a repeated DISCOVER", kinds[:2])
	}
}

func TestLeaseIsNotBelievedBlindly(t *testing.T) {
	c := &dhcpClient{iface: &net.Interface{Name: "eth0"}}
	ack := func(more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(more...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, addr := range map[string]net.IP{"nothing": net.IPv4zero, "loopback": net.IPv4(127, 0, 0, 1), "multicast": net.IPv4(224, 0, 0, 1), "broadcast": net.IPv4bcast} {
		if l, err := c.lease(ack(dhcpv4.WithYourIP(addr))); err == nil {
			t.Errorf("the address %q was taken: %+v", name, l)
		}
	}
	l, err := c.lease(ack(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9)), dhcpv4.WithLeaseTime(1)))
	if err != nil || l.Prefix.String() != "10.0.0.9/32" || l.Time != time.Minute || l.renewal != 30*time.Second {
		t.Errorf("lease = %+v (%v), want 10.0.0.9/32 for a minute at least", l, err)
	}
}
