package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func newPoolsCmd(a *app) *cobra.Command {
	return group("pools", "Look at pools", newPoolsListCmd(a), newPoolsShowCmd(a))
}

func newPoolsListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Pool]{
		use:   "list",
		short: "List pools and the states of their nodes",
		ask:   func(ctx context.Context, srv server, _ []string) ([]api.Pool, error) { return srv.Pools(ctx) },
		show:  poolListing,
	})
}

func poolListing(pools []api.Pool) listing[api.Pool] {
	return listing[api.Pool]{
		items: pools,
		name:  func(p api.Pool) string { return p.Name },
		columns: []column[api.Pool]{
			{"POOL", false, func(p api.Pool) string { return p.Name }},
			{"STAGE", false, func(p api.Pool) string { return p.Stage }},
			{"PROFILE", false, func(p api.Pool) string { return p.Profile }},
			{"IMAGE", false, func(p api.Pool) string { return dash(p.Image) }},
			{"CLUSTER", false, func(p api.Pool) string { return dash(p.Cluster) }},
			{"MANAGERS", true, func(p api.Pool) string { return fmt.Sprint(p.Managers) }},
			{"NODES", false, poolNodes},
			{"RUN", false, func(p api.Pool) string { return dash(p.Run) }},
		},
	}
}

// poolNodes counts the nodes of a pool, in the order of a node's life.
func poolNodes(p api.Pool) string {
	var parts []string
	for _, s := range fleet.States() {
		if n := p.Nodes[string(s)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

func newPoolsShowCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show POOL",
		Short:             "Show a pool and its nodes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePools,
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		pools, err := srv.Pools(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(pools, func(p api.Pool) bool { return p.Name == args[0] })
		if i < 0 {
			return noPool(args[0], pools)
		}
		nodes, err := srv.AllNodes(ctx, "pool:"+args[0])
		if err != nil {
			return err
		}
		if format == "csv" {
			return poolListing(pools[i:i+1]).write(a.stdout, format)
		}
		return writeOne(a.stdout, format, pools[i], args[0], func(w io.Writer) {
			showPool(w, pools[i])
			fmt.Fprintln(w)
			_ = a.nodeListing(nodes).write(w, format) // a table cannot fail
		})
	})
}

func showPool(w io.Writer, p api.Pool) {
	writeTable(w, nil, [][]string{
		{"pool", p.Name},
		{"stage", p.Stage},
		{"profile", p.Profile},
		{"image", dash(p.Image)},
		{"cluster", join(p.Cluster, plural(p.Managers, "manager"))},
		{"nodes", poolNodes(p)},
		{"run", dash(p.Run)},
	})
}

// noPool says which pools there are, and which one may have been meant.
func noPool(name string, pools []api.Pool) error {
	names := make([]string, 0, len(pools))
	for _, p := range pools {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return &exitError{
			code: exitUsage, err: fmt.Errorf("no pool %q: no pool is declared yet", name),
			hint: "declare some: provision apply -f site.yaml",
		}
	}
	maybe := ""
	if near := fleet.Nearest(name, names); near != "" {
		maybe = fmt.Sprintf(" Did you mean %q?", near)
	}
	return usagef("no pool %q.%s   Pools: %s", name, maybe, strings.Join(names, ", "))
}
