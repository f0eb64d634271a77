package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newEnrolCmd(a *app) *cobra.Command {
	return group("enrol", "Let discovered machines in", newEnrolListCmd(a), newEnrolApproveCmd(a))
}

func newEnrolListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Node]{
		use:   "list",
		short: "List machines that wait for approval",
		ask: func(ctx context.Context, srv server, _ []string) ([]api.Node, error) {
			return unapproved(ctx, srv)
		},
		show: a.enrolListing,
		tell: func(waiting []api.Node) string {
			if len(waiting) == 0 {
				return ""
			}
			return "approve:  provision enrol approve MAC…"
		},
	})
}

func unapproved(ctx context.Context, srv server) (waiting []api.Node, err error) {
	nodes, err := srv.AllNodes(ctx, "")
	for _, n := range nodes {
		if !n.Approved {
			waiting = append(waiting, n)
		}
	}
	return waiting, err
}

func (a *app) enrolListing(nodes []api.Node) listing[api.Node] {
	return listing[api.Node]{
		items: nodes,
		name:  nodeTitle,
		columns: []column[api.Node]{
			{"MAC", false, func(n api.Node) string { return n.MAC }},
			{"ADDRESS", false, func(n api.Node) string { return dash(n.Addr) }},
			{"STATE", false, func(n api.Node) string { return n.State }},
			{"POOL", false, func(n api.Node) string { return dash(n.Pool) }},
			{"VENDOR", false, func(n api.Node) string { return dash(n.Inventory.Vendor) }},
			{"MODEL", false, func(n api.Node) string { return dash(n.Inventory.Product) }},
			{"SERIAL", false, func(n api.Node) string { return dash(n.Inventory.Serial) }},
			{"MEMORY", false, func(n api.Node) string { return dash(memoryWord(n.Inventory.MemoryMiB)) }},
			{"DISKS", false, func(n api.Node) string { return fmt.Sprint(len(n.Inventory.Disks)) }},
			{"ID", true, func(n api.Node) string { return n.ID }},
			{"UUID", true, func(n api.Node) string { return dash(n.UUID) }},
			{"BMC", true, func(n api.Node) string { return dash(n.Inventory.BMC.Address) }},
			{"AGE", false, func(n api.Node) string { return since(a.now(), n.FirstSeen) }},
		},
	}
}

func newEnrolApproveCmd(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "approve NODE… | --all",
		Short: "Approve machines (by MAC address or ID)",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the machines to approve, or say --all")
			}
			return nil
		},
		ValidArgsFunction: a.completeNodes,
	}
	cmd.Flags().BoolVar(&all, "all", false, "approve every machine that waits")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		if all {
			waiting, err := unapproved(ctx, srv)
			if err != nil {
				return err
			}
			for _, n := range waiting {
				args = append(args, n.ID)
			}
		}
		return a.approveNodes(ctx, srv, args, format)
	})
}

func (a *app) approveNodes(ctx context.Context, srv server, refs []string, format string) error {
	var approved []api.Node
	for _, ref := range refs {
		n, err := srv.Approve(ctx, ref)
		if err != nil {
			_ = a.approvedNodes(approved, format) // what was done before is told all the same
			return err
		}
		approved = append(approved, n)
	}
	return a.approvedNodes(approved, format)
}

func (a *app) approvedNodes(nodes []api.Node, format string) error {
	if format != "table" {
		return a.enrolListing(nodes).write(a.stdout, format)
	}
	for _, n := range nodes {
		pool := "no pool"
		if n.Pool != "" {
			pool = "pool " + n.Pool
		}
		fmt.Fprintln(a.stdout, printable(fmt.Sprintf("approved %s  %s  %s", nodeTitle(n), n.State, pool)))
	}
	return nil
}
