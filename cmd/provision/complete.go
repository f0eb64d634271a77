package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails for a flag that does not exist, which every test would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeNodes offers the nodes of the server to the shell.
func (a *app) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all := func(ctx context.Context, srv server) ([]api.Node, error) { return srv.AllNodes(ctx, "") }
	return offer(cmd.Context(), a, all, nodeTitle)
}

// completePools offers the pools of the server to the shell.
func (a *app) completePools(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all := func(ctx context.Context, srv server) ([]api.Pool, error) { return srv.Pools(ctx) }
	return offer(cmd.Context(), a, all, func(p api.Pool) string { return p.Name })
}

// completeRuns offers the runs of the server to the shell.
func (a *app) completeRuns(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all := func(ctx context.Context, srv server) ([]api.Run, error) { return srv.Runs(ctx) }
	return offer(cmd.Context(), a, all, func(r api.Run) string { return r.ID })
}

// offer asks the server, briefly. Without one there is nothing to offer.
func offer[T any](ctx context.Context, a *app, all func(context.Context, server) ([]T, error), name func(T) string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	srv, err := a.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	items, err := all(ctx, srv)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(items))
	for _, it := range items {
		names = append(names, printable(name(it)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
