package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// Whatever a hundred thousand made-up clients send, a good one has its address
// within a second, and the server's memory stays what it was.
func TestAFloodStopsNobody(t *testing.T) {
	d := newDrill(t, t.TempDir())
	d.load(time.Second, nil)
	client, err := api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(d.state, "provision.sock")})
	if err != nil {
		t.Fatal(err)
	}
	before := resident(t, d.p)
	cpu0, _ := d.p.cpu()
	var res flooded
	if err := d.l.load(t.Context(), 3*time.Minute, "flood", floodArgs{
		Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), GoodRelay: goodRelay(t, d.l), Clients: 100_000,
	}, &res); err != nil {
		t.Fatal(err)
	}
	after := resident(t, d.p)
	cpu1, _ := d.p.cpu()
	t.Logf("CPU %.1f us a packet", float64((cpu1-cpu0).Microseconds())/float64(res.Sent))
	t.Logf("%d packets, %d of them during the exchanges of %d good clients, the slowest of which took %.2f s; memory %d MiB, then %d MiB",
		res.Sent, res.Meanwhile, res.Exchanges, res.Slowest, before>>10, after>>10)
	if res.Exchanges < 20 || res.Slowest > 1 {
		t.Errorf("%d good clients, the slowest took %.2f s, want 20 within a second each", res.Exchanges, res.Slowest)
	}
	if res.Meanwhile < res.Sent/2 {
		t.Errorf("%d of %d packets were sent during exchanges, want most of them", res.Meanwhile, res.Sent)
	}
	if after-before > 100<<10 {
		t.Errorf("the server took %d MiB more", (after-before)>>10)
	}
	counted, err := client.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"malformed", "limited", "relay_loop"} {
		t.Logf("%s %d", name, counted["provision_dhcp_"+name+"_total"])
		if counted["provision_dhcp_"+name+"_total"] == 0 {
			t.Errorf("no packet was counted as %s", name)
		}
	}
	if n := counted["provision_dhcp_panics_total"]; n != 0 {
		t.Errorf("%d packets made the server fail", n)
	}
	if err := d.p.alive(); err != nil {
		t.Error(err)
	}
}

// goodRelay is another relay than that of the flood.
func goodRelay(t *testing.T, l *link) netip.Addr {
	t.Helper()
	a := dhcpRelayAddr.Addr().Next()
	command(t, "ip", "-n", l.client, "addr", "add", netip.PrefixFrom(a, dhcpRelayAddr.Bits()).String(), "dev", clientIface)
	return a
}

// resident returns how much memory a process has, in KiB.
func resident(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pidsOf(t, p)[0]), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
