package ramdisk

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/net/ipv6"
)

// A fakeDHCP6 answers on the other end of a cable. It drops its first message
// and sends rubbish before what is good.
type fakeDHCP6 struct {
	conn *net.UDPConn

	mu    sync.Mutex
	drop  int
	rapid bool // knows rapid commit
	gone  bool // knows of no lease any more
	seen  []dhcpv6.MessageType
}

func (s *fakeDHCP6) serve() {
	buf := make([]byte, 2048)
	for {
		n, from, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if m, err := dhcpv6.MessageFromBytes(buf[:n]); err == nil {
			s.answer(m, from)
		}
	}
}

func (s *fakeDHCP6) answer(m *dhcpv6.Message, from *net.UDPAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, m.MessageType)
	if s.drop--; s.drop >= 0 {
		return
	}
	reply := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: m.TransactionID}
	if m.MessageType == dhcpv6.MessageTypeSolicit && !s.rapid {
		reply.MessageType = dhcpv6.MessageTypeAdvertise
	}
	if s.rapid {
		reply.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	reply.AddOption(m.GetOneOption(dhcpv6.OptionClientID))
	reply.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	ia := &dhcpv6.OptIANA{IaId: m.Options.OneIANA().IaId}
	if s.gone {
		ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoBinding})
	} else {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd00::9"), PreferredLifetime: time.Hour, ValidLifetime: time.Hour})
	}
	reply.AddOption(ia)
	other := *reply
	other.TransactionID[0]++
	for _, b := range [][]byte{{1, 2, 3}, other.ToBytes(), reply.ToBytes()} {
		_, _ = s.conn.WriteToUDP(b, from)
	}
}

func TestCardGetsAnIPv6AddressFromASlowServer(t *testing.T) {
	for name, rapid := range map[string]bool{"in one exchange": true, "in two": false} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			go func() { // a goroutine of its own: its thread is in another namespace
				defer close(done)
				leaseOverCable6(t, rapid)
			}()
			<-done
		})
	}
}

func leaseOverCable6(t *testing.T, rapid bool) {
	client, server := cable(t)
	lc := net.ListenConfig{Control: bindTo(server.Name)}
	conn, err := lc.ListenPacket(t.Context(), "udp6", "[::]:547")
	if err != nil {
		t.Error(err)
		return
	}
	if err := ipv6.NewPacketConn(conn).JoinGroup(server, &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers}); err != nil {
		t.Error(err)
		return
	}
	fake := &fakeDHCP6{conn: conn.(*net.UDPConn), drop: 1, rapid: rapid}
	served := make(chan struct{})
	go func() { defer close(served); fake.serve() }()
	defer func() { _ = conn.Close(); <-served }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := Network{Server: netip.MustParseAddr("fd00::1")}
	c, err := n.client(ctx, client)
	if err != nil {
		t.Error(err)
		return
	}
	lease, err := c.acquire(ctx)
	c.close()
	want := netip.MustParsePrefix("fd00::9/128")
	if err != nil || lease.Prefix != want || lease.Time != time.Hour || lease.renewal != 30*time.Minute {
		t.Errorf("lease = %+v (%v), want %v for an hour", lease, err, want)
		return
	}
	if err := configure(lease); err != nil {
		t.Errorf("configure = %v", err)
	}
	for _, late := range []bool{false, true} {
		again, err := n.ask(ctx, client, lease, late)
		if err != nil || again.Prefix != want {
			t.Errorf("renewed at any server %v = %v (%v), want %v", late, again.Prefix, err, want)
		}
	}
	fake.mu.Lock()
	fake.gone = true
	fake.mu.Unlock()
	if _, err := n.ask(ctx, client, lease, false); !errors.Is(err, errNak) {
		t.Errorf("renew of a lost lease = %v, want %v", err, errNak)
	}
}

func TestAnIPv6LeaseIsNotBelievedBlindly(t *testing.T) {
	c := &dhcp6Client{iface: &net.Interface{Name: "eth0"}}
	for name, tt := range map[string]struct {
		addr  string
		valid time.Duration
	}{
		"nothing": {"::", time.Hour}, "loopback": {"::1", time.Hour}, "multicast": {"ff02::1", time.Hour},
		"link-local": {"fe80::1", time.Hour}, "IPv4 in disguise": {"::ffff:10.0.0.1", time.Hour}, "one that is over": {"fd00::9", 0},
	} {
		m := &dhcpv6.Message{}
		m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
		ia := &dhcpv6.OptIANA{}
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(tt.addr), ValidLifetime: tt.valid})
		m.AddOption(ia)
		if l, err := c.lease(m); err == nil {
			t.Errorf("the address %q was taken: %+v", name, l)
		}
	}
}
