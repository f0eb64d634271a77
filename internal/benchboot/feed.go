package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

// The feed is a rack whose nodes all write the same image at once. Each node is
// a process in a network namespace of its own, which does with the code of the
// agent what a node does, but for the disk, which forgets. The server is the
// program's HTTP server with its store of images and its certificates (see
// feedServer). What the server sent and what the nodes got is read from the
// counters of the network cards.

// feedNodeAddr is the address of the first node.
var feedNodeAddr = netip.MustParseAddr("10.64.0.1")

const feedReady = "ready"

func feedSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	nodes := max(4, b.scale(50))
	var share, seconds []float64
	var fault error
	for round := range min(b.rounds, 2) {
		r, err := b.feed(ctx, nodes)
		if err != nil {
			fault = fmt.Errorf("round %d: %w", round+1, err)
			break
		}
		b.say("rack feed, round %d: %d nodes in %.0f s; server sent %.0f MiB, nodes got %.0f MiB", round+1, nodes, r.seconds, r.sent/(1<<20), r.got/(1<<20))
		share, seconds = append(share, r.sent/r.got), append(seconds, r.seconds)
	}
	name, aim := fmt.Sprintf("feed-%d", nodes), "<=0.05"
	if nodes < 50 {
		aim = "" // few cannot feed one another so much
	}
	return []figure.Figure{
		{Name: name + "-server-share", What: fmt.Sprintf("image bytes sent by the server / got by %d nodes of a rack", nodes), Unit: "sent/got", Aim: aim, Rounds: share},
		{Name: name + "-time", Unit: "s", Rounds: seconds},
	}, fault
}

type fed struct{ sent, got, seconds float64 }

func (b *bench) feed(ctx context.Context, nodes int) (r fed, err error) {
	l, err := b.newLink(ctx, "f", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	names, err := l.rack(ctx, nodes)
	defer func() { err = errors.Join(err, removeNamespaces(names)) }()
	if err != nil {
		return r, err
	}
	dir, err := b.tempDir("feed")
	if err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	server, err := l.start(ctx, nil, self, "feed-server", dir, filepath.Join(b.build, "state"), strconv.Itoa(nodes))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := poll(ctx, 20*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, feedReady))
		return errors.Join(err, server.alive())
	}); err != nil {
		return r, err
	}
	begin, sentBefore := time.Now(), 0.0
	if sentBefore, err = counter(ctx, l.server, serverIface, "tx_bytes"); err != nil {
		return r, err
	}
	if err := feedAll(ctx, names, self, dir); err != nil {
		return r, errors.Join(err, server.alive())
	}
	r.seconds = time.Since(begin).Seconds()
	sent, err := counter(ctx, l.server, serverIface, "tx_bytes")
	if err != nil {
		return r, err
	}
	r.sent = sent - sentBefore
	for _, ns := range names {
		got, err := counter(ctx, ns, nodeIface, "rx_bytes")
		if err != nil {
			return r, err
		}
		r.got += got
	}
	return r, nil
}

const nodeIface = "node0"

// rack makes a network namespace for each node, routed through the end of the
// link: on one bridge each node would know the others by ARP, and the kernel
// keeps no more than 1,024 neighbours for all namespaces together. It returns
// those that it has made, whatever comes of it.
func (l *link) rack(ctx context.Context, nodes int) (names []string, err error) {
	ip := func(args ...string) error {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	for _, knob := range []string{"ip_forward", "conf/" + clientIface + "/proxy_arp"} {
		if err := ip("netns", "exec", l.client, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/"+knob); err != nil {
			return nil, err
		}
	}
	const gateway = "10.255.255.254"
	addr := feedNodeAddr
	for i := range nodes {
		ns, port := fmt.Sprintf("%sn%d", l.client, i), fmt.Sprintf("n%d", i)
		if err := ip("netns", "add", ns); err != nil {
			return names, err
		}
		names = append(names, ns)
		for _, args := range [][]string{
			{"-n", l.client, "link", "add", port, "type", "veth", "peer", "name", nodeIface, "netns", ns},
			{"-n", l.client, "addr", "add", gateway + "/32", "dev", port},
			{"-n", l.client, "link", "set", port, "up"},
			{"-n", l.client, "route", "add", addr.String() + "/32", "dev", port},
			{"-n", ns, "addr", "add", addr.String() + "/32", "dev", nodeIface},
			{"-n", ns, "link", "set", "lo", "up"},
			{"-n", ns, "link", "set", nodeIface, "up"},
			{"-n", ns, "route", "add", gateway, "dev", nodeIface},
			{"-n", ns, "route", "add", "default", "via", gateway},
		} {
			if err := ip(args...); err != nil {
				return names, err
			}
		}
		addr = addr.Next()
	}
	return names, nil
}

func removeNamespaces(names []string) error {
	var errs []error
	for _, ns := range names {
		errs = append(errs, deleteNamespace(ns))
	}
	return errors.Join(errs...)
}

// counter reads what a network card has counted.
func counter(ctx context.Context, ns, iface, name string) (float64, error) {
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", ns, "cat", "/sys/class/net/"+iface+"/statistics/"+name).Output()
	if err != nil {
		return 0, fmt.Errorf("read %s of %s: %w", name, iface, err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// feedAll runs all nodes at once and waits for them.
func feedAll(ctx context.Context, names []string, self, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, ns := range names {
		wg.Go(func() {
			args, err := json.Marshal(feedArgs{Dir: dir, Node: i})
			if err != nil {
				errs[i] = err
				return
			}
			cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, self, "load", "feed")
			cmd.Stdin = strings.NewReader(string(args))
			var said tail
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Run(); err != nil {
				errs[i] = fmt.Errorf("node %d: %w: %s", i, err, &said)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
