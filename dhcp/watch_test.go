package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
	all := map[string]string{}
	for k, v := range b.standing {
		all[k] = v
	}
	return all
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
		command: []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=peer", "--bind-interfaces",
			"--dhcp-range=10.81.0.50,10.81.0.60,1h", "--dhcp-boot=pxelinux.0", "--dhcp-leasefile=DIR/leases", "--user=root", "--pid-file=DIR/pid"},
	},
	"dnsmasq as proxy": {
		link: "proxy0", addr: "10.82.0.2",
		command: []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=peer", "--bind-interfaces",
			"--dhcp-range=10.82.0.0,proxy", "--pxe-service=x86PC,boot,pxelinux", "--dhcp-leasefile=DIR/leases", "--user=root", "--pid-file=DIR/pid"},
	},
	"dhcpd": {
		link: "isc0", addr: "10.83.0.2",
		command: []string{"dhcpd", "-4", "-f", "-q", "-cf", "DIR/dhcpd.conf", "-lf", "DIR/leases", "-pf", "DIR/pid", "peer"},
		files:   map[string]string{"dhcpd.conf": "authoritative; subnet 10.83.0.0 netmask 255.255.255.0 { range 10.83.0.50 10.83.0.60; }\n", "leases": ""},
	},
}

// start runs the neighbour until stop is called.
func (n neighbour) start(t *testing.T) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range n.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gate := strings.TrimSuffix(n.addr, "2") + "1"
	run(t, "ip", "link", "add", n.link, "type", "veth", "peer", "name", "peer")
	run(t, "ip", "addr", "add", gate+"/24", "dev", n.link)
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
			for _, ip := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", n.addr + "/24", "dev", "peer"}, {"link", "set", "peer", "up"}} {
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
	return func() {
		cancel()
		<-done
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s said:\n%s", n.command[0], log)
		}
	}
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
	for _, stop := range stops {
		stop()
	}
	took = until(t, 30*time.Second, "no alarm", func() bool { return len(board.all()) == 0 })
	t.Logf("all gone %s after they stopped", took.Round(time.Millisecond))
	if err := s.CheckArming(t.Context(), subnets, withMode(subnets, fleet.Full)); err != nil {
		t.Errorf("arming once they are gone: %v", err)
	}
	if st := s.ForeignStats(); st.Malformed != 0 || st.Probes == 0 || st.Replies == 0 {
		t.Errorf("ForeignStats = %+v", st)
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
