package main

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// Good clients of TFTP have not asked for an address: theirs are another
// server's, for all we know.
const mutantSite = `subnets:
  - name: machines
    cidr: 10.64.0.0/16
    mode: proxy
  - name: bench
    cidr: 10.0.0.0/10
    mode: full
    ranges: [10.1.0.0-10.49.255.255]
    relays: [10.0.0.2, 10.0.0.3]
    probe: false
    lease: 1h
  - name: bench6
    cidr: "fd77::/64"
    mode: full
    ranges: ["fd77::1000-fd77::ffff"]
`

// captures are all packets of real machines that our tests have.
func captures(t *testing.T) captured {
	t.Helper()
	all := captured{}
	for _, pattern := range []string{"../../dhcp/testdata/*.pcap", "../../dhcp/dhcp6/testdata/*.pcap"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("captures: %q, %v", names, err)
		}
		for _, name := range names {
			if err := all.read(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for protocol, least := range map[string]int{"dhcp4": 40, "dhcp6": 8, "tftp": 20, "http": 20} {
		if len(all[protocol]) < least {
			t.Errorf("%d packets of %s in the captures, want %d", len(all[protocol]), protocol, least)
		}
	}
	return all
}

func TestMutantsAreTheSameEachTime(t *testing.T) {
	packets := captures(t)["dhcp4"]
	one, two := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(1, 1))
	same := 0
	for range 1000 {
		a, b := mutant(one, packets), mutant(two, packets)
		if !bytes.Equal(a, b) || len(a) > 1472 {
			t.Fatalf("mutants %x and %x", a, b)
		}
		for _, p := range packets {
			if bytes.Equal(a, p) {
				same++
				break
			}
		}
	}
	if same > 100 {
		t.Errorf("%d of 1000 mutants are what a real machine sent", same)
	}
}

// Whatever becomes of what real machines send, by DHCPv4, DHCPv6, TFTP and
// HTTP, good clients are answered within a second, and it is counted.
func TestMutantsOfRealPacketsStopNobody(t *testing.T) {
	d := newDrillWith(t, t.TempDir(), startMutants)
	addV6(t, d.l)
	if err := d.l.stormRoutes(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.start()
	client, err := api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(d.state, "provision.sock")})
	if err != nil {
		t.Fatal(err)
	}
	before, err := client.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var res map[string]survivor
	if err := d.l.load(t.Context(), 3*time.Minute, "mutants", mutantsArgs{
		Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), GoodRelay: goodRelay(t, d.l), Packets: captures(t), Mutants: 2000,
	}, &res); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"dhcp4", "dhcp6", "tftp", "http"} {
		r := res[protocol]
		t.Logf("%s: %d good clients, the slowest took %.3f s, and %d mutants came meanwhile", protocol, r.Good, r.Slowest, r.Meanwhile)
		if 10*r.Meanwhile < r.Good { // an HTTP mutant takes longer than a good client's whole request
			t.Errorf("%s: %d mutants while %d good clients waited, want one for ten at least", protocol, r.Meanwhile, r.Good)
		}
		if r.Good < 10 || r.Slowest > 1 {
			t.Errorf("%s: %d good clients, the slowest took %.2f s, want 10 within a second each", protocol, r.Good, r.Slowest)
		}
	}
	after, err := client.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"provision_dhcp_malformed_total", "provision_dhcp6_malformed_total", "provision_tftp_malformed_total",
		"provision_tftp_not_found_total", "provision_http_boot_bad_requests_total", "provision_http_boot_not_found_total",
	} {
		if after[name] <= before[name] {
			t.Errorf("%s is %d, and was %d before", name, after[name], before[name])
		}
	}
	for _, name := range []string{
		"provision_dhcp_panics_total", "provision_dhcp6_panics_total", "provision_dhcp_foreign_panics_total", "provision_tftp_panics_total",
		"provision_http_boot_panics_total",
	} {
		if n, there := after[name]; n != 0 || !there {
			t.Errorf("%s is %d, %v", name, n, there)
		}
	}
	if err := d.p.alive(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if more := after[name] - before[name]; more != 0 {
				t.Logf("%s: %d more", name, more)
			}
		}
		t.Logf("the server said: %s", d.p.said)
	}
}

// addV6 gives both ends an address of the IPv6 subnet.
func addV6(t *testing.T, l *link) {
	t.Helper()
	command(t, "ip", "-n", l.server, "addr", "add", "fd77::1/64", "dev", serverIface, "nodad")
	command(t, "ip", "-n", l.client, "addr", "add", "fd77::2/64", "dev", clientIface, "nodad")
	for _, a := range []netip.Addr{badLocal, goodLocal} {
		command(t, "ip", "-n", l.client, "addr", "add", a.String()+"/64", "dev", clientIface, "nodad")
	}
}

// startMutants starts the program with a file that good clients fetch.
func startMutants(d *drill) error {
	boot := filepath.Join(d.state, "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(boot, mutantFile), make([]byte, mutantFileSize), 0o644); err != nil {
		return err
	}
	st, err := d.l.provision(d.Context(), d.state, mutantSite)
	if err == nil {
		d.p = st.process
	}
	return err
}
