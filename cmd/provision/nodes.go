package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newNodesCmd(a *app) *cobra.Command {
	return group("nodes", "Look at machines, rescue them", newNodesListCmd(a), newNodesShowCmd(a), newNodesRescueCmd(a))
}

func newNodesListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Node]{
		use:   "list [QUERY]",
		short: "List nodes: state, phase, and why they stopped",
		example: `  provision nodes list
  provision nodes list 'state:failed pool:prd' -o wide
  provision nodes list -o name state:active`,
		args: cobra.ArbitraryArgs,
		ask: func(ctx context.Context, srv server, args []string) ([]api.Node, error) {
			return srv.AllNodes(ctx, strings.Join(args, " "))
		},
		show: a.nodeListing,
		tell: func(nodes []api.Node) string { return plural(len(nodes), "node") },
	})
}

func (a *app) nodeListing(nodes []api.Node) listing[api.Node] {
	return listing[api.Node]{
		items: nodes,
		name:  nodeTitle,
		columns: []column[api.Node]{
			{"NODE", false, func(n api.Node) string { return dash(n.Name) }},
			{"STATE", false, func(n api.Node) string { return n.State }},
			{"PHASE", false, nodePhase},
			{"POOL", false, func(n api.Node) string { return dash(n.Pool) }},
			{"ROLE", false, func(n api.Node) string { return dash(n.Role) }},
			{"MAC", false, func(n api.Node) string { return n.MAC }},
			{"ADDRESS", false, func(n api.Node) string { return dash(n.Addr) }},
			{"ID", true, func(n api.Node) string { return n.ID }},
			{"STAGE", true, func(n api.Node) string { return dash(n.Stage) }},
			{"ARCH", true, func(n api.Node) string { return dash(n.Inventory.Arch) }},
			{"FIRMWARE", true, func(n api.Node) string { return dash(n.Inventory.Firmware) }},
			{"MODEL", true, func(n api.Node) string { return dash(n.Inventory.Product) }},
			{"BMC", true, func(n api.Node) string { return dash(n.BMC) }},
			{"IMAGE", true, func(n api.Node) string { return dash(n.Image) }},
			{"TRUST", true, func(n api.Node) string { return fmt.Sprintf("T%d", n.Trust) }},
			{"SEEN", false, func(n api.Node) string { return since(a.now(), n.LastSeen) }},
			{"WHY", false, nodeWhy},
		},
	}
}

// nodeTitle is what people know a node by, and what commands take.
func nodeTitle(n api.Node) string {
	switch {
	case n.Name != "":
		return n.Name
	case n.MAC != "":
		return n.MAC
	default:
		return n.ID
	}
}

func nodePhase(n api.Node) string {
	if n.Progress > 0 && n.Progress < 100 {
		return fmt.Sprintf("%s %d %%", n.Phase, n.Progress)
	}
	return dash(n.Phase)
}

func nodeWhy(n api.Node) string {
	switch {
	case n.Failure != nil && n.Failure.Code != "":
		return n.Failure.Code
	case n.Failure != nil:
		return n.Failure.Text
	case !n.Approved:
		return "waiting for approval"
	default:
		return ""
	}
}

func newNodesShowCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show NODE",
		Short:             "Show all that is known of a node (by name, MAC address or ID)",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		n, err := srv.Node(ctx, args[0])
		if err != nil {
			return err
		}
		if format == "csv" {
			return a.nodeListing([]api.Node{n}).write(a.stdout, format)
		}
		return writeOne(a.stdout, format, n, nodeTitle(n), func(w io.Writer) { a.showNode(w, n) })
	})
}

// showNode prints one node for people. Fields that say nothing are left out.
func (a *app) showNode(w io.Writer, n api.Node) {
	inv := n.Inventory
	rows := [][]string{
		{"node", nodeTitle(n)},
		{"id", n.ID},
		{"state", n.State + approvedWord(n)},
		{"rescue", rescueWord(n.Rescue)},
		{"loader", loaderWord(n.Loader)},
		{"phase", strings.Trim(nodePhase(n), "—")},
		{"pool", join(n.Pool, prefixed("stage ", n.Stage), n.Role)},
		{"run", n.Run},
		{"address", join(n.Addr, n.MAC)},
		{"place", placeWord(n.Place)},
		{"uuid", n.UUID},
		{"bmc", bmcWord(n)},
		{"trust", fmt.Sprintf("T%d", n.Trust)},
		{"machine", join(strings.TrimSpace(inv.Vendor+" "+inv.Product), prefixed("serial ", inv.Serial), prefixed("asset ", inv.AssetTag))},
		{"firmware", join(inv.Firmware, inv.BIOS, secureWord(inv))},
		{"cpu", cpuWord(inv.CPU)},
		{"memory", memoryWord(inv.MemoryMiB)},
		{"system", join(n.Image + shortDigest(n.Digest))},
		{"cluster", join(n.Cluster, prefixed("member ", n.Member))},
		{"first seen", since(a.now(), n.FirstSeen) + " ago"},
		{"last seen", since(a.now(), n.LastSeen) + " ago"},
	}
	for _, d := range inv.Disks {
		rows = append(rows, []string{"disk", join(d.Name, d.ID, d.Model, prefixed("serial ", d.Serial), bytesOf(d.Bytes), prefixed("holds ", d.Holds))})
	}
	for _, c := range inv.NICs {
		rows = append(rows, []string{"nic", join(c.Name, c.MAC, c.Driver, prefixed("to ", strings.Trim(c.LLDP.System+"/"+c.LLDP.Port, "/")))})
	}
	if f := n.Failure; f != nil {
		rows = append(rows, []string{"failure", join(f.Code, prefixed("in ", f.Phase), f.Text)}, []string{"hint", f.Hint})
	}
	for _, f := range n.Findings {
		rows = append(rows, []string{"finding", join(f.Code, f.Title, f.Detail)}, []string{"fix", f.Fix})
	}
	var said [][]string
	for _, r := range rows {
		if r[1] != "" && r[1] != "— ago" {
			said = append(said, r)
		}
	}
	writeTable(w, nil, said)
	if n.Failure != nil && n.Failure.Console != "" {
		fmt.Fprintf(w, "\nLast lines on its console:\n%s\n", printable(n.Failure.Console))
	}
}

func bmcWord(n api.Node) string {
	if n.Power == nil {
		return n.BMC
	}
	return join(n.Power.Address, prefixed("by ", n.Power.Driver), powerDetail(*n.Power), prefixed("certificate ", n.Power.Pin))
}

func placeWord(p *api.Place) string {
	if p == nil {
		return ""
	}
	return join(prefixed("port ", p.CircuitID), prefixed("switch ", p.RemoteID), prefixed("relay ", p.Relay), prefixed("subnet ", p.Subnet))
}

func approvedWord(n api.Node) string {
	if n.Approved {
		return ""
	}
	return ", waiting for approval"
}

func secureWord(inv api.Inventory) string {
	if inv.Secure {
		return "Secure Boot on"
	}
	return ""
}

func cpuWord(c api.CPU) string {
	if c.Model == "" && c.Threads == 0 {
		return ""
	}
	return join(c.Model, plural(c.Sockets, "socket"), plural(c.Cores, "core"), plural(c.Threads, "thread"))
}

func memoryWord(mib int) string {
	if mib == 0 {
		return ""
	}
	return bytesOf(int64(mib) << 20)
}

// join puts the parts that say something beside each other.
func join(parts ...string) string {
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	return strings.Join(said, ", ")
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
