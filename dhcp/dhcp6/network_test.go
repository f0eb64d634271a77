package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/icmp"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
)

// serve runs a server on card s0, one end of a cable, until the test ends.
func serve(t *testing.T, addr string, subnets ...fleet.Subnet) *Server {
	t.Helper()
	return serveWith(t, addr, Options{Subnets: subnets})
}

func serveWith(t *testing.T, addr string, o Options) *Server {
	t.Helper()
	s, _ := serveUntil(t, addr, o)
	return s
}

// serveUntil returns what ends the server, too.
func serveUntil(t *testing.T, addr string, o Options) (*Server, func()) {
	t.Helper()
	err := errors.Join(
		netns.IP("link", "add", "s0", "type", "veth", "peer", "name", "c0", "address", string(theMAC)),
		os.WriteFile("/proc/sys/net/ipv6/conf/s0/accept_dad", []byte("0"), 0o600),
		netns.IP("address", "add", addr, "dev", "s0"), netns.IP("link", "set", "s0", "up"),
	)
	if err != nil {
		t.Fatal(err)
	}
	o.Interfaces, o.Nodes, o.Leases = []string{"s0"}, nodes{}, &ledgerFile{now: time.Now}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	end := sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(end)
	<-s.Ready()
	return s, end
}

// The kernel of a real Linux learns from us what is on its link, and gets its
// address through real sockets; it is not told that we are a router.
func TestALinuxHostGetsItsAddressAndItsRoute(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := serve(t, "fd98::1/64", rack6())
	netns.Elsewhere(t, "c0", func() error {
		if err := errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/c0/accept_dad", []byte("0"), 0o600), netns.IP("link", "set", "c0", "up")); err != nil {
			return err
		}
		addr, err := lease(t, s.id)
		if err != nil {
			return err
		}
		if l, ok := s.LeaseByAddr(addr); !ok || l.MAC != theMAC {
			return fmt.Errorf("leased %s, the book says %+v", addr, l)
		}
		return awaitRoutes(t)
	})
}

// lease goes through SOLICIT and REQUEST on card c0.
func lease(t *testing.T, server []byte) (netip.Addr, error) {
	t.Helper()
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{Port: clientPort})
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	to := &net.UDPAddr{IP: allServers.AsSlice(), Port: serverPort, Zone: "c0"}
	buf := make([]byte, 2048)
	ask := func(m *dhcpv6.Message) (*dhcpv6.Message, error) {
		var err error
		for range 40 { // the server may not have joined its group yet, the card may have no address
			_, _ = conn.WriteToUDP(m.ToBytes(), to)
			_ = conn.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
			var n int
			if n, _, err = conn.ReadFromUDP(buf); err == nil {
				return dhcpv6.MessageFromBytes(buf[:n])
			}
		}
		return nil, err
	}
	offer, err := ask(agent.say(t, dhcpv6.MessageTypeSolicit, nil))
	if err != nil {
		return netip.Addr{}, err
	}
	reply, err := ask(agent.say(t, dhcpv6.MessageTypeRequest, server, addressIn(offer)))
	return addressIn(reply), err
}

// awaitRoutes waits until the kernel has the route of our prefix, and looks
// that it has no default route and no address of its own making.
func awaitRoutes(t *testing.T) error {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var out []byte
	for range 200 {
		var err error
		if out, err = exec.CommandContext(t.Context(), "ip", "-6", "route", "show").CombinedOutput(); err != nil {
			return err
		}
		if strings.Contains(string(out), "fd98::/64 dev c0 proto kernel") {
			break
		}
		<-tick.C
	}
	addrs, err := exec.CommandContext(t.Context(), "ip", "-6", "address", "show", "dev", "c0", "scope", "global").CombinedOutput()
	if !strings.Contains(string(out), "fd98::/64 dev c0 proto kernel") || strings.Contains(string(out), "default") || strings.Contains(string(addrs), "fd98") {
		return fmt.Errorf("routes:\n%s\naddresses:\n%s\nwant our prefix on the link, no default route, no address; %w", out, addrs, err)
	}
	return nil
}

// On a link with IPv4 alone a solicitation is answered, by an advertisement
// that changes nothing in who hears it.
func TestOnAnIPv4LinkSolicitationsAreAnswered(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := serve(t, "10.77.0.1/24", rack4(fleet.Full))
	netns.Elsewhere(t, "c0", func() error {
		// Linux asks for routers when a card comes up, three times.
		if err := netns.IP("link", "set", "c0", "up"); err != nil {
			return err
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 300 {
			if s.Stats().Solicitations > 0 {
				break
			}
			<-tick.C
		}
		out, err := exec.CommandContext(t.Context(), "ip", "-6", "route", "show", "default").CombinedOutput()
		if s.Stats().Solicitations == 0 || len(out) > 0 || s.Stats().Advertisements != s.Stats().Solicitations {
			return fmt.Errorf("counters %+v, default route %q, %w; want answers to solicitations only, and no route", s.Stats(), out, err)
		}
		return nil
	})
}

// Where we are the default router, hosts do not wait for one that has ended.
func TestADefaultRouterThatEndsSaysSo(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	n := rack6()
	n.Router = serverIP
	_, end := serveUntil(t, "fd98::1/64", Options{Subnets: []fleet.Subnet{n}})
	netns.Elsewhere(t, "c0", func() error {
		if err := netns.IP("link", "set", "c0", "up"); err != nil {
			return err
		}
		awaitDefault := func(want bool) error {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for range 300 {
				out, err := exec.CommandContext(t.Context(), "ip", "-6", "route", "show", "default").CombinedOutput()
				if err != nil || len(out) > 0 == want {
					return err
				}
				<-tick.C
			}
			return fmt.Errorf("a default route after 15 s: %v, want %v", !want, want)
		}
		if err := awaitDefault(true); err != nil {
			return err
		}
		end()
		return awaitDefault(false)
	})
}

// Where we only observe, a machine asks for routers and for an address, and
// hears nothing of us.
func TestANewSubnetObserves(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	n := rack6()
	n.Mode = fleet.Observe
	s := serve(t, "fd98::1/64", n)
	netns.Elsewhere(t, "c0", func() error {
		if err := errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/c0/accept_dad", []byte("0"), 0o600), netns.IP("link", "set", "c0", "up")); err != nil {
			return err
		}
		conn, err := net.ListenUDP("udp6", &net.UDPAddr{Port: clientPort})
		if err != nil {
			return err
		}
		defer conn.Close()
		routers, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
		if err != nil {
			return err
		}
		defer routers.Close()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 100 { // the server may not have joined its group yet, the card may have no address
			_, _ = conn.WriteToUDP(agent.say(t, dhcpv6.MessageTypeSolicit, nil).ToBytes(), &net.UDPAddr{IP: allServers.AsSlice(), Port: serverPort, Zone: "c0"})
			_, _ = routers.WriteTo([]byte{133, 0, 0, 0, 0, 0, 0, 0}, &net.IPAddr{IP: allRouters.AsSlice(), Zone: "c0"})
			if s.Stats().Received >= 2 {
				break
			}
			<-tick.C
		}
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		got, from, err := conn.ReadFromUDP(make([]byte, 2048))
		if st := s.Stats(); err == nil || st.Received < 2 || st.Ignored != st.Received || st.Advertises+st.Replies+st.Advertisements != 0 {
			return fmt.Errorf("%d bytes from %s, counters %+v; want silence", got, from, st)
		}
		return nil
	})
}

// Another program has the DHCPv6 port: nobody needs it while only IPv4 is
// declared, it is an alarm when IPv6 is, and served as soon as it is free.
func TestATakenPortEndsNothing(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	if err := netns.IP("link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenUDP("udp6", &net.UDPAddr{Port: serverPort})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	told := make(alarmFeed, 8)
	s := serveWith(t, "fd98::1/64", Options{Subnets: []fleet.Subnet{rack4(fleet.Full)}, Alarms: told}) // its cleanup fails if Run does
	s.SetSubnets([]fleet.Subnet{rack6()})
	want := fleet.CodeNoIPv6 + " DHCPv6"
	if got := told.next(t); got != want {
		t.Fatalf("told %q, want %q", got, want)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	s.SetSubnets([]fleet.Subnet{rack6()})
	if got := told.next(t); got != "over: "+want {
		t.Errorf("told %q, want the end of %q", got, want)
	}
}

// An alarmFeed hands on what is raised and cleared.
type alarmFeed chan string

func (f alarmFeed) Raise(code, on, _ string) { f <- code + " " + on }

func (f alarmFeed) Clear(code, on string) { f <- "over: " + code + " " + on }

func (f alarmFeed) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-f:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("told of nothing")
		return ""
	}
}
