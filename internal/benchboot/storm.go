package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/figure"
)

// The storm is a hall whose power comes back: all nodes boot at once, each as a
// UEFI machine does: DHCP, the loader by TFTP after asking for its size,
// autoexec.ipxe by TFTP, the node's script by HTTP, and the heads of kernel and
// ramdisk. Nothing is left out but the rest of those two.

// stormRange are the addresses that the nodes get. All of them are local in
// the clients' namespace.
var stormRange = netip.MustParsePrefix("10.64.0.0/16")

const stormSite = `subnets:
  - name: bench
    cidr: 10.0.0.0/8
    mode: full
    ranges: [10.64.0.1-10.64.255.254]
    lease: 1h
`

type stormArgs struct {
	Server netip.Addr
	Nodes  int
	Within time.Duration // they are switched on within this time
}

type stormed struct {
	Seconds  float64 // until the last one has got everything
	Failed   int
	Why      []string // of some that failed
	P50, P99 float64  // seconds that one node took
}

func stormSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	nodes := b.scale(10_000)
	var times, failed, p99 []float64
	var fault error
	for round := range min(b.rounds, 2) {
		r, err := b.storm(ctx, nodes)
		if err != nil {
			fault = fmt.Errorf("round %d: %w", round+1, err)
			break
		}
		b.say("storm, round %d: %d nodes in %.1f s, p50 %.2f s, p99 %.2f s, %d failed %s", round+1, nodes, r.Seconds, r.P50, r.P99, r.Failed, strings.Join(r.Why, "; "))
		times, failed, p99 = append(times, r.Seconds), append(failed, float64(r.Failed)), append(p99, r.P99)
	}
	name := fmt.Sprintf("storm-%d", nodes)
	return []figure.Figure{
		{Name: name, What: fmt.Sprintf("storm: %d nodes, DHCP to kernel", nodes), Unit: "s", Aim: "<=120", Rounds: times},
		{Name: name + "-failed", What: "nodes of the storm that failed", Unit: "nodes", Aim: "<=0", Rounds: failed, Each: true},
		{Name: name + "-p99", Unit: "s", Rounds: p99},
	}, fault
}

func (b *bench) storm(ctx context.Context, nodes int) (r stormed, err error) {
	l, err := b.newLink(ctx, "s", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.stormRoutes(ctx); err != nil {
		return r, err
	}
	dir, err := b.tempDir("storm")
	if err != nil {
		return r, err
	}
	if err := os.Symlink(filepath.Join(b.build, "state", "boot"), filepath.Join(dir, "boot")); err != nil {
		return r, err
	}
	st, err := l.provision(ctx, dir, stormSite)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.stop()) }()
	if err := l.dhcpUp(ctx, st.process); err != nil {
		return r, err
	}
	a := stormArgs{Server: dhcpServerAddr.Addr(), Nodes: nodes, Within: 5 * time.Second}
	if err := l.load(ctx, 5*time.Minute, "storm", a, &r); err != nil {
		return r, errors.Join(err, st.alive())
	}
	if r.Failed > 0 {
		b.say("counted: %s", st.counted(ctx))
	}
	return r, nil
}

// counted is what the program has counted since its start, but for what is 0.
func (st *station) counted(ctx context.Context) string {
	client, err := api.NewClient(api.ClientOptions{Server: "unix:" + filepath.Join(st.state, "provision.sock")})
	if err != nil {
		return err.Error()
	}
	counters, err := client.Counters(ctx)
	if err != nil {
		return err.Error()
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		if n := counters[name]; n != 0 {
			words = append(words, fmt.Sprintf("%s %d", strings.TrimPrefix(name, "provision_"), n))
		}
	}
	return strings.Join(words, ", ")
}

// stormRoutes makes all addresses of the nodes local in the clients' namespace.
// To the server they are behind a router: the kernel knows 1,024 neighbours at
// most, unless net.ipv4.neigh.default.gc_thresh3 says otherwise. They do not
// answer its probe, by ARP or echo: a machine has no address before it got one.
func (l *link) stormRoutes(ctx context.Context) error {
	for _, args := range [][]string{
		{"netns", "exec", l.client, "sh", "-c", "cd /proc/sys/net/ipv4 && echo 1 >conf/all/arp_ignore && echo 1 >icmp_echo_ignore_all"},
		{"-n", l.client, "route", "add", "local", stormRange.String(), "dev", "lo"},
		{"-n", l.server, "route", "add", stormRange.String(), "via", dhcpRelayAddr.Addr().String()},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// stormLoad is all nodes.
func stormLoad(ctx context.Context, raw json.RawMessage) (any, error) {
	var a stormArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	if most := int(files.Max) - 100; a.Nodes > most { //nolint:gosec // a count of files
		return nil, fmt.Errorf("%d nodes need a socket each, but only %d files may be open: raise ulimit -Hn", a.Nodes, most)
	}
	wire, err := listenStorm(ctx)
	if err != nil {
		return nil, err
	}
	defer wire.close()
	s := &storm{stormArgs: a, wire: wire}
	return s.run(ctx)
}

type storm struct {
	stormArgs
	wire   *stormWire
	loader atomic.Int64 // its size, as the first node got it

	mu   sync.Mutex
	took []time.Duration
	res  stormed
}

func (s *storm) run(ctx context.Context) (stormed, error) {
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range s.Nodes {
		wg.Go(func() {
			wait := time.NewTimer(s.Within * time.Duration(i) / time.Duration(s.Nodes))
			defer wait.Stop()
			<-wait.C
			started := time.Now()
			err := s.boot(ctx, uint32(i)) //nolint:gosec // a count
			s.note(i, time.Since(started), err)
		})
	}
	wg.Wait()
	s.res.Seconds = time.Since(begin).Seconds()
	if len(s.took) == 0 {
		return s.res, fmt.Errorf("no node booted: %v", s.res.Why)
	}
	slices.Sort(s.took)
	s.res.P50, s.res.P99 = s.took[len(s.took)/2].Seconds(), s.took[len(s.took)*99/100].Seconds()
	return s.res, nil
}

func (s *storm) note(i int, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.took = append(s.took, took)
		return
	}
	s.res.Failed++
	if len(s.res.Why) < 5 {
		s.res.Why = append(s.res.Why, fmt.Sprintf("node %d: %v", i, err))
	}
}

// boot is the life of one node from power-on to its kernel.
func (s *storm) boot(ctx context.Context, number uint32) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	mac := net.HardwareAddr{0x52, 0x54, 0x40, byte(number >> 16), byte(number >> 8), byte(number)}
	lease, err := s.wire.lease(ctx, mac, number)
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	if !stormRange.Contains(lease.addr) || lease.file == "" {
		return fmt.Errorf("DHCP: got %s and boot file %q", lease.addr, lease.file)
	}
	t := tftpNode{local: lease.addr, server: netip.AddrPortFrom(s.Server, 69)}
	size, err := t.size(ctx, lease.file)
	if err != nil {
		return fmt.Errorf("size of %s: %w", lease.file, err)
	}
	loader, err := t.get(ctx, lease.file, 1468, 4)
	if err != nil {
		return fmt.Errorf("loader: %w", err)
	}
	s.loader.CompareAndSwap(0, size)
	if int64(len(loader)) != size || size != s.loader.Load() {
		return fmt.Errorf("loader: got %d bytes of %d", len(loader), size)
	}
	auto, err := t.get(ctx, "autoexec.ipxe", 1432, 0)
	if err != nil || !strings.HasPrefix(string(auto), "#!ipxe") {
		return fmt.Errorf("autoexec.ipxe: %w: %.40q", err, auto)
	}
	return s.script(ctx, lease.addr, mac)
}

// script fetches the node's script, and the heads of what it names.
func (s *storm) script(ctx context.Context, local netip.Addr, mac net.HardwareAddr) error {
	conn, err := dialHTTP(ctx, local, netip.AddrPortFrom(s.Server, 80))
	if err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	defer conn.close()
	hyphened := strings.ReplaceAll(mac.String(), ":", "-")
	text, err := conn.get("/boot/ipxe?mac="+hyphened+"&uuid=&platform=efi&arch=x86_64", "")
	if err != nil {
		return fmt.Errorf("script: %w", err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "http://") })
		if i < 1 || (words[0] != "kernel" && words[0] != "initrd") {
			continue
		}
		_, path, _ := strings.Cut(strings.TrimPrefix(words[i], "http://"), "/")
		head, err := conn.get("/"+path, "bytes=0-4095")
		if err != nil || len(head) != 4096 {
			return fmt.Errorf("head of /%s: %w, %d bytes", path, err, len(head))
		}
		found++
	}
	if found != 2 {
		return fmt.Errorf("the script names %d files, want kernel and ramdisk: %.200q", found, text)
	}
	return nil
}
