package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A link is a pair of network namespaces, joined by a veth pair. Nothing
// leaves them.
type link struct {
	b              *bench
	server, client string // names of the namespaces
	wire           *wire  // nil: a veth pair
}

// The names of the interfaces in the namespaces.
const (
	serverIface = "srv0"
	clientIface = "cli0"
)

// newLink makes one; the prefixes are the addresses of the two ends.
func (b *bench) newLink(ctx context.Context, name string, server, client netip.Prefix) (*link, error) {
	id := strconv.Itoa(os.Getpid())
	l := &link{b: b, server: "bb" + id + name + "s", client: "bb" + id + name + "c"}
	veth := func(end string) string { return "bb" + id + end } // names of interfaces are short
	steps := [][]string{
		{"netns", "add", l.server},
		{"netns", "add", l.client},
		{"link", "add", veth("s"), "netns", l.server, "type", "veth", "peer", "name", veth("c"), "netns", l.client},
		{"-n", l.server, "link", "set", veth("s"), "name", serverIface},
		{"-n", l.client, "link", "set", veth("c"), "name", clientIface},
		{"-n", l.server, "addr", "add", server.String(), "dev", serverIface},
		{"-n", l.client, "addr", "add", client.String(), "dev", clientIface},
	}
	for ns, iface := range map[string]string{l.server: serverIface, l.client: clientIface} {
		steps = append(steps, []string{"-n", ns, "link", "set", "lo", "up"}, []string{"-n", ns, "link", "set", iface, "up"})
	}
	for _, args := range steps {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out), l.close())
		}
	}
	if err := l.carrier(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// onEveryCore is the link with servers that run on any core.
func (l *link) onEveryCore() *link {
	b := *l.b
	b.unpinned = true
	return &link{b: &b, server: l.server, client: l.client, wire: l.wire}
}

// carrier waits until both ends see one another: Kea opens no socket on an
// interface that does not run yet, and never tries again.
func (l *link) carrier(ctx context.Context) error {
	return poll(ctx, 10*time.Second, func() error {
		for ns, iface := range map[string]string{l.server: serverIface, l.client: clientIface} {
			out, err := exec.CommandContext(ctx, "ip", "-n", ns, "-br", "link", "show", "dev", iface).Output()
			if err != nil || !bytes.Contains(out, []byte("LOWER_UP")) || !bytes.Contains(out, []byte(" UP ")) {
				return errors.Join(fmt.Errorf("%s is not up: %s", iface, out), err)
			}
		}
		return nil
	})
}

// close takes the namespaces away. What runs in them has to be stopped before.
func (l *link) close() error {
	if l.wire != nil {
		l.wire.close()
	}
	return errors.Join(deleteNamespace(l.server), deleteNamespace(l.client))
}

// deleteNamespace takes one away, if there is such a one.
func deleteNamespace(ns string) error {
	out, err := exec.Command("ip", "netns", "delete", ns).CombinedOutput() //nolint:noctx // after Ctrl-C too
	if err != nil && !strings.Contains(string(out), "No such file") {
		return fmt.Errorf("ip netns delete %s: %w: %s", ns, err, out)
	}
	return nil
}

// load runs a load in the clients' namespace, on its core, and reads what it
// measured into result.
func (l *link) load(ctx context.Context, limit time.Duration, name string, args, result any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := json.Marshal(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", slices.Concat([]string{"netns", "exec", l.client}, l.b.on(loadCPU), []string{self, "load", name})...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load %s: %w: %s", name, errors.Join(err, ctx.Err()), said.Bytes())
	}
	return json.Unmarshal(out.Bytes(), result)
}
