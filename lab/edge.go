package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
)

// A rack whose machines are remote has an edge: a namespace of its own between
// the server's network and theirs, with a leg in each. It forwards packets,
// and runs whatever relay is to be tried.
const (
	EdgeUplink   = "eth0" // towards the server
	EdgeMachines = "eth1" // towards the remote machines

	farBridge = "far0" // of the remote machines; nobody here has an address on it
)

var (
	// EdgeAddress is the edge on the server's network.
	EdgeAddress = netip.MustParsePrefix("10.77.0.254/24")
	// RemoteAddress is the edge on the network of the remote machines.
	RemoteAddress = netip.MustParsePrefix("10.78.0.1/24")
)

// ErrNoEdge says that the rack has no remote machines.
var ErrNoEdge = errors.New("the rack has no edge")

func edgeOf(rack string) namespace { return namespaceOf(rack) + "-edge" }

func hasRemote(ms []Machine) bool {
	return slices.ContainsFunc(ms, func(m Machine) bool { return m.Remote })
}

// buildEdge makes the edge and its links, and the way from the server to the
// remote machines.
func buildEdge(ctx context.Context, rack, edge namespace) error {
	if err := edge.create(ctx); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"link", "add", "edge0", "netns", string(rack), "type", "veth", "peer", "name", EdgeUplink, "netns", string(edge)},
		{"link", "add", "edge1", "netns", string(rack), "type", "veth", "peer", "name", EdgeMachines, "netns", string(edge)},
		{"-n", string(rack), "link", "set", "edge0", "master", Bridge, "up"},
		{"-n", string(rack), "link", "set", "edge1", "master", farBridge, "up"},
		{"-n", string(edge), "link", "set", "lo", "up"},
		{"-n", string(edge), "address", "add", EdgeAddress.String(), "dev", EdgeUplink},
		{"-n", string(edge), "address", "add", RemoteAddress.String(), "dev", EdgeMachines},
		{"-n", string(edge), "link", "set", EdgeUplink, "up"},
		{"-n", string(edge), "link", "set", EdgeMachines, "up"},
		{"-n", string(rack), "route", "add", RemoteAddress.Masked().String(), "via", EdgeAddress.Addr().String()},
	} {
		if err := run(ctx, append([]string{"ip"}, argv...)...); err != nil {
			return err
		}
	}
	return edge.forward(true)
}

// forward sets whether the namespace passes packets on.
func (ns namespace) forward(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return ns.do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0o644); err != nil { //nolint:gosec // the kernel's own file
			return fmt.Errorf("set forwarding of %s: %w", ns, err)
		}
		return nil
	})
}

// Forwarding sets whether the edge passes packets on as a router does. It does
// at first.
func (r *Rack) Forwarding(on bool) error {
	if !edgeOf(r.name).exists() {
		return ErrNoEdge
	}
	return edgeOf(r.name).forward(on)
}

// EdgeCommand prepares a program that runs on the edge. [Rack.Start] starts
// it.
func (r *Rack) EdgeCommand(ctx context.Context, argv ...string) *exec.Cmd {
	return edgeOf(r.name).command(ctx, argv...)
}
