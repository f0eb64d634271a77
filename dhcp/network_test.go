package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
)

func inNamespace(tb testing.TB) bool { tb.Helper(); return netns.Inside(tb) }

func run(tb testing.TB, name string, args ...string) { //nolint:unparam // reads as it is typed
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), name, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func elsewhere(tb testing.TB, link string, work func() error) {
	tb.Helper()
	netns.Elsewhere(tb, link, work)
}

// ipHere runs ip on this very thread's namespace.
func ipHere(args ...string) error { return netns.IP(args...) }

// startServer runs a server until the test ends.
func startServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
		if tb.Failed() {
			tb.Logf("Stats = %+v", s.Stats())
		}
	})
	waitForPort(tb, serverPort)
	waitForPort(tb, proxyPort)
	return s
}

// waitForPort waits until somebody listens.
func waitForPort(tb testing.TB, port int) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		b, err := os.ReadFile("/proc/thread-self/net/udp") // our first thread may be elsewhere
		if err != nil {
			tb.Fatal(err)
		}
		if strings.Contains(string(b), fmt.Sprintf(":%04X ", port)) {
			return
		}
		<-tick.C
	}
	tb.Fatalf("nobody listens on port %d", port)
}

func TestAClientGetsALeaseOverARealLink(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "nic0")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	// A second network, to see that answers leave by the link they belong to.
	run(t, "ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")
	run(t, "ip", "addr", "add", "10.99.0.1/24", "dev", "other0")
	run(t, "ip", "link", "set", "other0", "up")

	leases := &memoryLeases{}
	s := startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Full)}, Nodes: knownNodes{}, Leases: leases})
	elsewhere(t, "nic0", func() error {
		if err := errors.Join(ipHere("link", "set", "nic0", "up")); err != nil {
			return err
		}
		return fourWays(t)
	})
	if l, ok := s.LeaseByAddr(netip.MustParseAddr("10.77.0.100")); !ok || l.State != fleet.LeaseBound {
		t.Errorf("LeaseByAddr = %+v, %t, want the client's", l, ok)
	}
	// A client on a busy machine may ask again; each packet is answered once.
	if st := s.Stats(); st.ACKs < 2 || st.Offers+st.ACKs != st.Received || st.SendError != 0 || st.Panics != 0 {
		t.Errorf("Stats = %+v, want an answer to each packet and no fault", st)
	}
}

// fourWays gets a lease, renews it, and compares.
func fourWays(t *testing.T) error {
	t.Helper()
	c, err := nclient4.New("nic0", nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	lease, err := c.Request(t.Context(), func(m *dhcpv4.DHCPv4) { firmware("PXEClient:Arch:00007", 7)(m) })
	if err != nil {
		return fmt.Errorf("no lease: %w", err)
	}
	if got := lease.ACK; got.YourIPAddr.String() != "10.77.0.100" || got.BootFileName != "snponly.efi" {
		return fmt.Errorf("the lease is %s, boot file %q", got.YourIPAddr, got.BootFileName)
	}
	if err := errors.Join(ipHere("addr", "add", lease.ACK.YourIPAddr.String()+"/24", "dev", "nic0")); err != nil {
		return err
	}
	again, err := c.Renew(t.Context(), lease)
	if err != nil {
		return fmt.Errorf("not renewed: %w", err)
	}
	if !again.ACK.YourIPAddr.Equal(lease.ACK.YourIPAddr) {
		return fmt.Errorf("renewed as %s", again.ACK.YourIPAddr)
	}
	return nil
}

// Firmware that got its address from another server asks for its boot file on
// port 4011, from whichever port it likes, and hears the answer there.
func TestFirmwareIsToldWhatToBootOnPort4011OverARealLink(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "nic0")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Proxy)}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	elsewhere(t, "nic0", func() error {
		if err := errors.Join(ipHere("addr", "add", "10.77.0.50/24", "dev", "nic0"), ipHere("link", "set", "nic0", "up")); err != nil {
			return err
		}
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 50), Port: 4011})
		if err != nil {
			return err
		}
		defer conn.Close()
		ask := packet(macA, request, firmware("PXEClient:Arch:00007:UNDI:003000", 7), has("10.77.0.50")).ToBytes()
		buf := make([]byte, 2048)
		for range 20 { // new links lose the first packets
			if _, err := conn.WriteToUDP(ask, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: proxyPort}); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				return err
			}
			n, from, err := conn.ReadFromUDP(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return err
			}
			got, err := dhcpv4.FromBytes(buf[:n])
			if err != nil {
				return err
			}
			if from.String() != "10.77.0.1:4011" || got.MessageType() != dhcpv4.MessageTypeAck || got.BootFileName != "snponly.efi" || !got.YourIPAddr.IsUnspecified() || got.ClassIdentifier() != "PXEClient" {
				return fmt.Errorf("from %s came %v", from, got)
			}
			return nil
		}
		return errors.New("nothing came from port 4011")
	})
}

// wireToRelay lays a wire to relay0, beyond which the network 10.88.0.0/24 is.
func wireToRelay(t *testing.T, way ...string) {
	t.Helper()
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "relay0")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	run(t, "ip", append([]string{"route", "add", "10.88.0.0/24"}, way...)...)
}

func TestARelayGetsItsAnswersOnPort67(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wireToRelay(t, "dev", "rack0")
	far := fleet.Subnet{
		Name: "far", CIDR: netip.MustParsePrefix("10.88.0.0/24"), Mode: fleet.Full,
		Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.88.0.10"), Last: netip.MustParseAddr("10.88.0.20")}},
		Relays: []netip.Addr{netip.MustParseAddr("10.88.0.1")}, BOOTP: true,
	}
	startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Observe), far}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	elsewhere(t, "relay0", func() error {
		if err := errors.Join(
			ipHere("addr", "add", "10.77.0.2/24", "dev", "relay0"), ipHere("addr", "add", "10.88.0.1/32", "dev", "relay0"),
			ipHere("link", "set", "relay0", "up"),
		); err != nil {
			return err
		}
		if err := relayExchange(); err != nil {
			return err
		}
		return renewThroughRouter()
	})
}

// asRelay opens a relay's end: what it sends carries its address, and what
// comes back must come from the server's port.
func asRelay(giaddr string) (ask asking, end func(), err error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(giaddr), Port: serverPort})
	if err != nil {
		return nil, nil, err
	}
	ask = func(m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
		relayed(giaddr)(m)
		if _, err := c.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: serverPort}); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return nil, err
		}
		b := make([]byte, 2048)
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return nil, err
		}
		if from.String() != "10.77.0.1:67" {
			return nil, fmt.Errorf("the answer comes from %s", from)
		}
		return dhcpv4.FromBytes(b[:n])
	}
	return ask, func() { _ = c.Close() }, nil
}

// asking sends a request by way of a relay, and returns the answer.
type asking func(*dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error)

// isOffered has a client ask, who is to be offered an address.
func (ask asking) isOffered(mac fleet.MAC, want string) error {
	got, err := ask(packet(mac, discover))
	if err != nil || got.YourIPAddr.String() != want {
		return fmt.Errorf("the answer to %s = %v, %w, want an offer of %s", mac, got, err, want)
	}
	return nil
}

// behindARouter runs work on the far side of a router which is a relay as well:
// there the network far is.
func behindARouter(t *testing.T, work func(*Server, asking) error) *Server {
	t.Helper()
	wireToRelay(t, "via", "10.77.0.2")
	s := startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Observe), farSubnet()}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	elsewhere(t, "relay0", func() error {
		if err := errors.Join(
			ipHere("link", "set", "lo", "up"), ipHere("addr", "add", "10.77.0.2/24", "dev", "relay0"), ipHere("link", "set", "relay0", "up"),
			ipHere("addr", "add", "10.88.0.1/32", "dev", "relay0"),
		); err != nil {
			return err
		}
		ask, end, err := asRelay("10.88.0.1")
		if err != nil {
			return err
		}
		defer end()
		return work(s, ask)
	})
	return s
}

// renewThroughRouter renews what the relay's client got, as that client does:
// by unicast, through a router and not through the relay. Then it asks for the
// same from an address that it does not have.
func renewThroughRouter() error {
	if err := ipHere("addr", "add", "10.88.0.10/32", "dev", "relay0"); err != nil {
		return err
	}
	got, err := askFrom("10.77.0.2", packet(macA, inform, has("10.88.0.10")), 300*time.Millisecond)
	if err != nil || got != nil {
		return fmt.Errorf("one that claims an address: answer = %v, %w", got, err)
	}
	got, err = askFrom("10.88.0.10", packet(macA, request, has("10.88.0.10")), 5*time.Second)
	if err != nil || kindOf(got) != ack || got.YourIPAddr.String() != "10.88.0.10" {
		return fmt.Errorf("renewal through a router: answer = %v, %w", got, err)
	}
	return nil
}

// askFrom sends a packet to the server from one of our addresses, and returns
// what comes back to that address; nil for nothing.
func askFrom(addr string, m *dhcpv4.DHCPv4, wait time.Duration) (*dhcpv4.DHCPv4, error) {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr), Port: clientPort}, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: serverPort})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	if _, err := c.Write(m.ToBytes()); err != nil {
		return nil, err
	}
	b := make([]byte, 2048)
	n, err := c.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return dhcpv4.FromBytes(b[:n])
}

// relayExchange is a relay's half of an exchange, and of a question about it.
func relayExchange() error {
	ask, end, err := asRelay("10.88.0.1")
	if err != nil {
		return err
	}
	defer end()
	port := option(82, "\x01\x04eth0")
	offered, err := ask(packet(macA, discover, port))
	if err != nil {
		return err
	}
	acked, err := ask(packet(macA, request, port, wants(offered.YourIPAddr.String()), chooses("10.77.0.1")))
	if err != nil {
		return err
	}
	if kindOf(acked) != ack || acked.YourIPAddr.String() != "10.88.0.10" || string(acked.Options[82]) != "\x01\x04eth0" {
		return fmt.Errorf("answer = %v", acked)
	}
	told, err := ask(packet(macB, leaseQuery, has("10.88.0.10"), noHardware))
	if err != nil {
		return err
	}
	if kindOf(told) != kindLeaseActive || told.ClientHWAddr.String() != string(macA) {
		return fmt.Errorf("answer = %v, want it to say that A has the address", told)
	}
	old, err := ask(packet(macB, silence))
	if err != nil {
		return err
	}
	if old.YourIPAddr.String() != "10.88.0.11" || kindOf(old) != silence {
		return fmt.Errorf("answer = %v, want an address by BOOTP", old)
	}
	return nil
}

func TestAPortInUseNamesItsHolder(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: serverPort})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s, err := New(Options{Nodes: knownNodes{}, Leases: &memoryLeases{}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	want := fmt.Sprintf("UDP 67 is already in use by dhcp.test (pid %d)", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) || fleet.KindOf(err) != fleet.Conflict || fleet.HintOf(err) == "" {
		t.Errorf("Run = %v, want %q and a hint", err, want)
	}
}

// A rack of 500 that is switched on at once sends 500 DISCOVERs back to back.
func TestARackThatIsSwitchedOnAtOnceIsAnsweredWhole(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "nic0")
	run(t, "ip", "link", "set", "nic0", "up")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	run(t, "ip", "neigh", "add", "10.77.0.2", "lladdr", "52:54:00:00:00:02", "dev", "rack0")
	n := rackSubnet(fleet.Full)
	n.CIDR = netip.MustParsePrefix("10.76.0.0/14")
	n.Ranges[0] = fleet.AddrRange{First: netip.MustParseAddr("10.78.0.1"), Last: netip.MustParseAddr("10.78.255.254")}
	s := startServer(t, Options{Subnets: []fleet.Subnet{n}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	to := &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: serverPort}
	const nodes = 500
	sender, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	for i := range nodes {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255))
		if _, err := sender.Write(packet(mac, discover, relayed("10.77.0.2"), func(m *dhcpv4.DHCPv4) { m.TransactionID = [4]byte{0, 0, byte(i >> 8), byte(i)} }).ToBytes()); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 800 {
		if s.Stats().Offers == nodes {
			return
		}
		<-tick.C
	}
	t.Errorf("Stats = %+v, want %d offers within 4 s", s.Stats(), nodes)
}
