package dhcp

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// An alarmBoard is the alarms that stand.
type alarmBoard struct {
	mu       sync.Mutex
	standing map[string]string
}

func (b *alarmBoard) Raise(code, on, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.standing == nil {
		b.standing = map[string]string{}
	}
	b.standing[code+" "+on] = detail
}

func (b *alarmBoard) Clear(code, on string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.standing, code+" "+on)
}

func (b *alarmBoard) all() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.standing)
}

// A neighbour is a real DHCP server on the other end of a link of its own.
type neighbour struct {
	link    string // our end
	addr    string // its address
	command []string
	files   map[string]string // that it needs, DIR stands for their folder
}

var neighbours = map[string]neighbour{
	"dnsmasq": {
		link: "full0", addr: "10.81.0.2",
		command: []string{
			"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=peer", "--bind-interfaces",
			"--dhcp-range=10.81.0.50,10.81.0.60,1h", "--dhcp-boot=pxelinux.0", "--dhcp-leasefile=DIR/leases", "--user=root", "--pid-file=DIR/pid",
		},
	},
	"dnsmasq as proxy": {
		link: "proxy0", addr: "10.82.0.2",
		command: []string{
			"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=peer", "--bind-interfaces",
			"--dhcp-range=10.82.0.0,proxy", "--pxe-service=x86PC,boot,pxelinux", "--dhcp-leasefile=DIR/leases", "--user=root", "--pid-file=DIR/pid",
		},
	},
	"dhcpd": {
		link: "isc0", addr: "10.83.0.2",
		command: []string{"dhcpd", "-4", "-f", "-q", "-cf", "DIR/dhcpd.conf", "-lf", "DIR/leases", "-pf", "DIR/pid", "peer"},
		files:   map[string]string{"dhcpd.conf": "authoritative; subnet 10.83.0.0 netmask 255.255.255.0 { range 10.83.0.50 10.83.0.60; }\n", "leases": ""},
	},
}

// radvd is a router that speaks as conf says.
func radvd(link, addr, conf string) neighbour {
	return neighbour{
		link: link, addr: addr, command: []string{"radvd", "-n", "-C", "DIR/radvd.conf", "-p", "DIR/pid", "-m", "stderr"},
		files: map[string]string{"radvd.conf": "interface peer { AdvSendAdvert on; " + conf + " };\n"},
	}
}

var neighbours6 = map[string]neighbour{
	"dnsmasq, which is a router too": {
		link: "masq0", addr: "fd81::2",
		command: []string{
			"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=peer", "--bind-interfaces", "--enable-ra",
			"--dhcp-range=fd81::100,fd81::1ff,64,1h", "--dhcp-option=option6:bootfile-url,tftp://[fd81::2]/boot.efi", "--dhcp-leasefile=DIR/leases", "--user=root", "--pid-file=DIR/pid",
		},
	},
	"Kea": {
		link: "kea0", addr: "fd82::2",
		command: []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs run /run && mkdir /run/kea && cp $(command -v kea-dhcp6) DIR/kea && exec DIR/kea -c DIR/kea.json"}, // it insists on that folder; AppArmor, on its configuration in another one
		files: map[string]string{"kea.json": `{"Dhcp6": {"interfaces-config": {"interfaces": ["peer"]}, "lease-database": {"type": "memfile", "persist": false},
			"data-directory": "DIR", "subnet6": [{"subnet": "fd82::/64", "interface": "peer", "pools": [{"pool": "fd82::100-fd82::1ff"}]}],
			"loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stderr"}]}]}}`},
	},
	"dhcpd": {
		link: "isc0", addr: "fd83::2",
		command: []string{"dhcpd", "-6", "-f", "-q", "-cf", "DIR/dhcpd.conf", "-lf", "DIR/leases", "-pf", "DIR/pid", "peer"},
		files:   map[string]string{"dhcpd.conf": "subnet6 fd83::/64 { range6 fd83::100 fd83::1ff; }\n", "leases": ""},
	},
	"a router that has machines make their own addresses": radvd("slaac0", "fd84::2", "prefix fd84::/64 {};"),
	"the router of the site":                              radvd("usual0", "fd85::2", "AdvManagedFlag on; prefix fd85::/64 { AdvAutonomous off; };"),
	"a router where site.yaml says that we are":           radvd("gate0", "fd86::2", "AdvManagedFlag on;"),
}

// start runs the neighbour until stop is called.
func (n neighbour) start(t *testing.T) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range n.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := strings.TrimSuffix(n.addr, "2")+"1/24", n.addr+"/24"
	if strings.Contains(n.addr, ":") {
		ours, theirs = strings.TrimSuffix(n.addr, "2")+"1/64", n.addr+"/64"
	}
	run(t, "ip", "link", "add", n.link, "type", "veth", "peer", "name", "peer")
	run(t, "ip", "addr", "add", ours, "dev", n.link)
	run(t, "ip", "link", "set", n.link, "up")
	var args []string
	for _, a := range n.command {
		args = append(args, strings.ReplaceAll(a, "DIR", dir))
	}
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		elsewhere(t, "peer", func() error {
			defer close(up)
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/peer/accept_dad", []byte("0"), 0o600); err != nil { // Kea does not wait for it
				return err
			}
			for _, ip := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", theirs, "dev", "peer"}, {"link", "set", "peer", "up"}} {
				if err := ipHere(ip...); err != nil {
					return err
				}
			}
			cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // of the table above
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				return err
			}
			cmd.Stdout, cmd.Stderr = log, log
			if err := cmd.Start(); err != nil {
				return err
			}
			up <- struct{}{}
			<-ctx.Done()
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return log.Close()
		})
	}()
	<-up
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s on %s said:\n%s", n.command[0], n.link, log)
		}
	})
	t.Cleanup(stop)
	return stop
}

// until waits until cond holds.
func until(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if <-tick.C; time.Since(begin) > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
	return time.Since(begin)
}

// Other servers are named with address and hardware address while they
// answer, and are gone when they stop. With a probe every 30 s, as it is
// unless told otherwise, one is found within 35 s of its start.
func TestRealServersAreAlarmsWhileTheyAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel() // each in a namespace of its own; they wait most of the time
	if !inNamespace(t) {
		return
	}
	const every = 2 * time.Second
	subnet := func(name, cidr string, mode fleet.DHCPMode) fleet.Subnet {
		return fleet.Subnet{Name: name, CIDR: netip.MustParsePrefix(cidr), Mode: mode}
	}
	subnets := []fleet.Subnet{
		subnet("full", "10.81.0.0/24", fleet.Observe), subnet("proxy", "10.82.0.0/24", fleet.Observe), subnet("isc", "10.83.0.0/24", fleet.Observe),
	}
	board := &alarmBoard{}
	s := startServer(t, Options{Subnets: subnets, Nodes: knownNodes{}, Leases: &memoryLeases{}, Alarms: board, ForeignEvery: every})

	var stops []func()
	for _, n := range neighbours {
		stops = append(stops, n.start(t))
	}
	want := map[string]string{
		"E-DHCP-ROGUE 10.81.0.2 on subnet full":        " on full0, offers 10.81.0.",
		"E-DHCP-ROGUE-PROXY 10.82.0.2 on subnet proxy": "on proxy0, proxyDHCP, has boot information",
		"E-DHCP-ROGUE 10.83.0.2 on subnet isc":         "on isc0, offers 10.83.0.",
	}
	took := until(t, 30*time.Second, "three alarms", func() bool { return len(board.all()) >= len(want) })
	t.Logf("all found %s after their start, with a probe every %s", took.Round(time.Millisecond), every)
	for on, detail := range want {
		if got := board.all()[on]; !strings.Contains(got, detail) {
			t.Errorf("alarm %q says %q, want %q in it; all: %q", on, got, detail, board.all())
		}
	}
	for _, other := range s.ForeignServers() {
		if hw, err := net.ParseMAC(string(other.MAC)); err != nil || len(hw) != 6 || !other.Probed {
			t.Errorf("server %+v is not named by its hardware address", other)
		}
	}
	checkArming(t, s, subnets)
	checkGone(t, s, board, subnets, stops)
	if st := s.ForeignStats(); st.Malformed != 0 || st.Probes == 0 || st.Replies == 0 {
		t.Errorf("ForeignStats = %+v", st)
	}
}

// DHCPv6 servers are found as those of IPv4 are, and so are routers; which only
// are an alarm where we serve IPv6 and they say something else.
func TestRealIPv6ServersAndRoutersAreAlarmsWhileTheyAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel() // each in a namespace of its own; they wait most of the time
	if !inNamespace(t) {
		return
	}
	subnet := func(name, cidr string, mode fleet.DHCPMode) fleet.Subnet {
		return fleet.Subnet{Name: name, CIDR: netip.MustParsePrefix(cidr), Mode: mode}
	}
	subnets := []fleet.Subnet{
		subnet("masq", "fd81::/64", fleet.Observe), subnet("kea", "fd82::/64", fleet.Observe), subnet("isc", "fd83::/64", fleet.Observe),
		subnet("slaac", "fd84::/64", fleet.Full), subnet("usual", "fd85::/64", fleet.Full), subnet("gate", "fd86::/64", fleet.Full),
	}
	subnets[5].Router = netip.MustParseAddr("fd86::1")
	board := &alarmBoard{}
	s := startServer(t, Options{Subnets: subnets, Nodes: knownNodes{}, Leases: &memoryLeases{}, Alarms: board, ForeignEvery: 2 * time.Second})
	var stops []func()
	for _, n := range neighbours6 {
		stops = append(stops, n.start(t))
	}
	want := map[string]string{
		"E-DHCP-ROGUE masq": ` on masq0, DUID 000[0-9a-f]+, offers fd81::1[0-9a-f]+, boots tftp://\[fd81::2\]/boot.efi$`,
		"E-DHCP-ROGUE kea":  ` on kea0, DUID 000[0-9a-f]+, offers fd82::1[0-9a-f]+, no boot file$`,
		"E-DHCP-ROGUE isc":  ` on isc0, DUID 000[0-9a-f]+, offers fd83::1[0-9a-f]+, no boot file$`,
		"E-RA-ROGUE slaac":  `^it does not tell machines to ask DHCPv6: .* on slaac0, default router for 30m0s, no DHCPv6, prefix fd84::/64 for addresses of their own$`,
		"E-RA-ROGUE gate":   `^it wants to be the default router, which this server is to be: .* on gate0, default router for 30m0s, addresses by DHCPv6$`,
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("alarms %q; servers %+v; %+v", board.all(), s.ForeignServers(), s.ForeignStats())
		}
	})
	took := until(t, 20*time.Second, "five alarms, and all routers seen", func() bool {
		return len(board.all()) >= len(want) && len(s.ForeignServers()) >= 7
	})
	t.Logf("all found %s after their start", took.Round(time.Millisecond))
	for on, detail := range board.all() {
		code, rest, _ := strings.Cut(on, " ")
		addr, sub, _ := strings.Cut(rest, " on subnet ")
		form, hw := regexp.MustCompile(want[code+" "+sub]), regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2} on `)
		if want[code+" "+sub] == "" || !form.MatchString(detail) || !hw.MatchString(detail) || !strings.HasPrefix(addr, "fe80::") {
			t.Errorf("alarm %q: %q, want %q", on, detail, form)
		}
	}
	for _, other := range s.ForeignServers() {
		usual := other.Router && (other.Subnet == "masq" || other.Subnet == "usual")
		if !other.Probed || other.MAC == "" || other.Expected != usual {
			t.Errorf("%+v: want it named, and expected: %t", other, usual)
		}
	}
	checkArming6(t, s, subnets)
	checkGone(t, s, board, subnets, stops)
}

// checkGone stops the neighbours, and sees that nothing is left of them.
func checkGone(t *testing.T, s *Server, board *alarmBoard, subnets []fleet.Subnet, stops []func()) {
	t.Helper()
	for _, stop := range stops {
		stop()
	}
	took := until(t, 30*time.Second, "no alarm", func() bool { return len(board.all()) == 0 })
	t.Logf("all gone %s after they stopped", took.Round(time.Millisecond))
	if err := s.CheckArming(t.Context(), subnets, withMode(subnets, fleet.Full)); err != nil {
		t.Errorf("arming once they are gone: %v", err)
	}
}

// checkArming6 finds out which subnets may give out addresses while the
// neighbours answer.
func checkArming6(t *testing.T, s *Server, before []fleet.Subnet) {
	t.Helper()
	for i, n := range before[:3] {
		for _, mode := range []fleet.DHCPMode{fleet.Reserved, fleet.Full} {
			err := s.CheckArming(t.Context(), before, withMode(before[i:i+1], mode))
			if fleet.KindOf(err) != fleet.Conflict || fleet.CodeOf(err) != fleet.CodeRogueDHCP || !strings.Contains(fmt.Sprint(err), "DUID 000") ||
				!strings.Contains(fleet.HintOf(err), "--force-dhcp") || strings.Contains(fleet.HintOf(err), "proxy") {
				t.Errorf("arming %s as %s: %v, want it refused", n.Name, mode, err)
			}
		}
	}
	for _, other := range s.ForeignServers() {
		if other.Subnet != "kea" {
			continue
		}
		known := withMode(before[1:2], fleet.Full)
		known[0].KnownDUIDs = []string{other.DUID}
		if err := s.CheckArming(t.Context(), before, known); err != nil {
			t.Errorf("arming beside a server that is known: %v", err)
		}
	}
}

func withMode(subnets []fleet.Subnet, mode fleet.DHCPMode) (out []fleet.Subnet) {
	for _, n := range subnets {
		n.Mode = mode
		out = append(out, n)
	}
	return out
}

// checkArming finds out which subnets may give out addresses while the
// neighbours answer.
func checkArming(t *testing.T, s *Server, before []fleet.Subnet) {
	t.Helper()
	for i, n := range before {
		for _, mode := range []fleet.DHCPMode{fleet.Proxy, fleet.Reserved, fleet.Full} { // asked once: the answer holds for a while
			err := s.CheckArming(t.Context(), before, withMode(before[i:i+1], mode))
			refused := fleet.KindOf(err) == fleet.Conflict && fleet.CodeOf(err) == fleet.CodeRogueDHCP &&
				strings.Contains(fmt.Sprint(err), "offers 10.8") && strings.Contains(fleet.HintOf(err), "--force-dhcp")
			if want := mode != fleet.Proxy && n.Name != "proxy"; refused != want || !refused && err != nil {
				t.Errorf("arming %s as %s: %v, want refused = %t", n.Name, mode, err, want)
			}
		}
	}
	known := withMode(before[:1], fleet.Full)
	known[0].KnownDHCP = []netip.Addr{netip.MustParseAddr("10.81.0.2")}
	if err := s.CheckArming(t.Context(), before, known); err != nil {
		t.Errorf("arming beside a server that is known: %v", err)
	}
	if err := s.CheckArming(t.Context(), withMode(before, fleet.Full), withMode(before, fleet.Reserved)); err != nil {
		t.Errorf("changing what gives addresses already: %v", err)
	}
}
