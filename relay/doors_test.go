package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
)

// await looks again and again until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		if so() {
			return
		}
		<-tick.C
	}
	t.Fatalf("10 s later: not %s", what)
}

// opens reports whether machines get in at an address.
func opens(t *testing.T, at string) bool {
	t.Helper()
	return opensAt(t, at, "80")
}

func opensAt(t *testing.T, at, port string) bool {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", net.JoinHostPort(at, port))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// hasAddress reports whether an interface has an address with a flag.
func hasAddress(t *testing.T, flag, prefix string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", "-6", "address", "show", "dev", "eth1", flag).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), prefix)
}

// run runs a relay whose server is away until the test ends it.
func run(t *testing.T, r *Relay) (stop func()) {
	t.Helper()
	var err error
	if r.link, err = newLink(&identity{Server: "https://127.0.0.1:1", Pin: "sha256:" + strings.Repeat("0", 64)}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := r.Run(ctx)
		if ctx.Err() == nil {
			t.Errorf("the relay ended: %v", err)
		}
		done <- err
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestAddressesComeAndGoWhileARelayRuns starts a relay on an interface with
// addresses that are good, one that another machine has too, and one that is
// there for privacy.
func TestAddressesComeAndGoWhileARelayRuns(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0")
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth1/use_tempaddr", []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	var machine net.PacketConn // keeps its namespace alive
	netns.Elsewhere(t, "nic0", func() (err error) {
		machine, err = net.ListenPacket("udp6", "[::]:0")
		return errors.Join(err, netns.IP("address", "add", "fd79::1/64", "dev", "nic0", "nodad"), netns.IP("link", "set", "nic0", "up"))
	})
	defer machine.Close()
	for _, args := range []string{
		"link set eth1 up", "address add 10.78.0.1/24 dev eth1",
		"address add fd79::1/64 dev eth1", "address add fd7a::1/64 dev eth1 mngtmpaddr",
	} {
		ip(t, strings.Fields(args)...)
	}
	await(t, "refused by another machine", func() bool { return hasAddress(t, "dadfailed", "fd79::1/64") })
	await(t, "made for privacy", func() bool { return hasAddress(t, "temporary", "fd7a:") && !hasAddress(t, "tentative", "temporary") })

	ip(t, "address", "add", "fd7b::1/64", "dev", "eth1")
	r := relayBehind(t) // while it is not known yet who has the newest
	defer run(t, r)()
	await(t, "open at an address of IPv4", func() bool { return opens(t, "10.78.0.1") })
	await(t, "open at an address of IPv6", func() bool { return opens(t, "fd7a::1") })
	await(t, "open at an address that was in doubt", func() bool { return opens(t, "fd7b::1") })
	ip(t, "address", "add", "fd78::1/64", "dev", "eth1", "nodad")
	await(t, "open at an address that came later", func() bool { return opens(t, "fd78::1") })
	ip(t, "address", "del", "fd78::1/64", "dev", "eth1")
	await(t, "aware of an address that went", func() bool { return !r.isOurs6(link6) })
	ip(t, "address", "add", "fd78::1/64", "dev", "eth1", "nodad")
	await(t, "open at an address that came back", func() bool { return opens(t, "fd78::1") })
	want := []netip.Addr{netip.MustParseAddr("10.78.0.1"), link6, netip.MustParseAddr("fd7a::1"), netip.MustParseAddr("fd7b::1")}
	if list := slices.SortedFunc(slices.Values(r.addrs()), netip.Addr.Compare); !slices.Equal(list, want) {
		t.Errorf("it serves %v, want %v", list, want)
	}
	if !opens(t, "10.78.0.1") {
		t.Error("the address that stayed is served no more")
	}
}

// TestTroubleWithIPv6LeavesIPv4Alone has another program on the port of DHCPv6
// until it ends.
func TestTroubleWithIPv6LeavesIPv4Alone(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0")
	ip(t, "link", "set", "eth1", "up")
	ip(t, "address", "add", "10.78.0.1/24", "dev", "eth1")
	other, err := net.ListenPacket("udp6", "[::]:547")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := relayBehind(t)
	defer run(t, r)()
	await(t, "open at an address of IPv4", func() bool { return opens(t, "10.78.0.1") })
	if got := r.reportNow(nil).Trouble; len(got) != 0 {
		t.Errorf("%v is reported, though the server serves no IPv6 there", got)
	}
	told := farSnapshot()
	told.Subnets = append(told.Subnets, api.RelaySubnet{Name: "far6", CIDR: netip.MustParsePrefix("fd78::/64"), Serves: true})
	if err := r.learn(told, "2"); err != nil {
		t.Fatal(err)
	}
	if got := r.reportNow(nil).Trouble; len(got) != 1 || got[0].Code != fleet.CodeRelayNoIPv6 || !strings.Contains(got[0].Detail, "547") {
		t.Errorf("%v is reported, want that port 547 is taken", got)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "relayed in IPv6", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.socket6 != nil
	})
	await(t, "well", func() bool { return len(r.reportNow(nil).Trouble) == 0 })
}
