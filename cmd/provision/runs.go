package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newRunsCmd(a *app) *cobra.Command {
	return group("runs", "Look at runs, past and present", newRunsListCmd(a), newRunsShowCmd(a), newRunsWatchCmd(a))
}

func newRunsListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Run]{
		use:   "list",
		short: "List runs, newest first",
		ask:   func(ctx context.Context, srv server, _ []string) ([]api.Run, error) { return srv.Runs(ctx) },
		show:  a.runListing,
	})
}

func (a *app) runListing(runs []api.Run) listing[api.Run] {
	return listing[api.Run]{
		items: runs,
		name:  func(r api.Run) string { return r.ID },
		columns: []column[api.Run]{
			{"RUN", false, func(r api.Run) string { return r.ID }},
			{"POOL", false, func(r api.Run) string { return r.Pool }},
			{"STATE", false, func(r api.Run) string { return r.State }},
			{"ACTIVE", false, func(r api.Run) string { return fmt.Sprint(r.Done) }},
			{"FAILED", false, func(r api.Run) string { return fmt.Sprint(r.Failed) }},
			{"WORKING", false, func(r api.Run) string { return fmt.Sprint(r.Working) }},
			{"HELD", false, func(r api.Run) string { return fmt.Sprint(r.Held) }},
			{"PLAN", true, func(r api.Run) string { return r.Plan }},
			{"BY", false, func(r api.Run) string { return dash(r.Actor) }},
			{"STARTED", false, func(r api.Run) string { return r.Started.Local().Format(time.DateTime) }},
			{"TIME", false, func(r api.Run) string { return took(orNow(r.Ended, a.now()).Sub(r.Started)) }},
		},
	}
}

func newRunsShowCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show RUN",
		Short:             "Show a run, and how long each phase of each node took",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		run, err := srv.Run(ctx, args[0])
		if err != nil {
			return err
		}
		if format == "csv" {
			return a.runNodes(run, run.Nodes).write(a.stdout, format)
		}
		return writeOne(a.stdout, format, run, run.ID, func(w io.Writer) { a.showRun(w, run) })
	})
}

func (a *app) showRun(w io.Writer, run api.Run) {
	writeTable(w, nil, [][]string{
		{"run", run.ID},
		{"pool", run.Pool},
		{"state", run.State},
		{"plan", run.Plan},
		{"by", dash(run.Actor)},
		{"started", run.Started.Local().Format(time.DateTime)},
		{"time", took(orNow(run.Ended, a.now()).Sub(run.Started))},
		{"nodes", fmt.Sprintf("%d active, %d failed, %d under way, %d held", run.Done, run.Failed, run.Working, run.Held)},
	})
	fmt.Fprintln(w)
	_ = a.runNodes(run, run.Nodes).write(w, "wide") // a table cannot fail
	head, rows := phaseTable(run)
	if len(rows) > 0 {
		fmt.Fprintln(w)
		writeTable(w, head, rows)
	}
	for _, n := range run.Nodes {
		for _, note := range n.Notes {
			fmt.Fprintf(w, "\n%s: %s\n", printable(nodeName(n)), printable(note))
		}
	}
}

// phaseTable says for each node how long after its start it reached each
// phase.
func phaseTable(run api.Run) (head []string, rows [][]string) {
	phases := phasesReached(run)
	head = append([]string{"NODE"}, phases...)
	for _, n := range run.Nodes {
		if len(n.Times) == 0 {
			continue
		}
		reached := map[string]string{}
		for _, t := range n.Times {
			reached[t.Phase] = took(t.At.Sub(n.Started))
		}
		row := []string{nodeName(n)}
		for _, p := range phases {
			row = append(row, dash(reached[p]))
		}
		rows = append(rows, row)
	}
	return head, rows
}

func newRunsWatchCmd(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:               "watch RUN",
		Short:             "Follow a run until it is over; its result is the exit code",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			srv, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			run, err := srv.Run(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			view := a.newView(o, api.Plan{Pool: run.Pool})
			return a.watch(cmd.Context(), srv, run, watchOptions{format: o.format, quiet: o.quiet, timeout: o.timeout, view: view})
		},
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", defaultTimeout, "wait at most this long; the run goes on")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "errors only")
	addProgress(cmd, &o.progress)
	addOutput(cmd, &o.format)
	return cmd
}
