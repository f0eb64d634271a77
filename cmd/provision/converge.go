package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

const defaultTimeout = 90 * time.Minute

// runOptions are the flags of `provision --pool`.
type runOptions struct {
	pool     string
	dryRun   bool
	yes      bool
	detach   bool
	timeout  time.Duration
	key      string
	format   string
	progress string
	quiet    bool
}

func newRunCmd(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --pool POOL",
		Short: "Make a pool what site.yaml declares (same as: provision --pool POOL)",
		Long: `Shows what would change, asks, starts the run and waits until the cluster has
confirmed every node. Running it again when nothing differs changes nothing.
Without a terminal safe changes start by themselves; changes that would touch
what a disk holds are held unless --yes approves the plan shown.

` + exitCodesHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.pool == "" {
				return usagef("name a pool: provision run --pool POOL")
			}
			return a.converge(cmd.Context(), o)
		},
	}
	addRunFlags(a, cmd, &o)
	return cmd
}

func addRunFlags(a *app, cmd *cobra.Command, o *runOptions) {
	f := cmd.Flags()
	f.StringVar(&o.pool, "pool", "", "`pool` to converge")
	f.BoolVar(&o.dryRun, "dry-run", false, "show the plan, change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "approve exactly the plan shown, held changes included")
	f.BoolVar(&o.detach, "detach", false, "print the run's ID and do not wait")
	f.DurationVar(&o.timeout, "timeout", defaultTimeout, "wait at most this long; the run goes on")
	f.StringVar(&o.key, "run-key", "", "idempotency `key`: the same key attaches to the same run")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "errors only")
	addProgress(cmd, &o.progress)
	addOutput(cmd, &o.format)
	_ = cmd.RegisterFlagCompletionFunc("pool", a.completePools)
}

func (o runOptions) check() error {
	if err := checkFormat(o.format); err != nil {
		return err
	}
	if o.timeout < 0 {
		return usagef("--timeout %s is negative", o.timeout)
	}
	return checkProgress(o.progress)
}

// converge is `provision --pool`: plan, ask, start, wait, result.
func (a *app) converge(ctx context.Context, o runOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	srv, err := a.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := srv.Plan(ctx, o.pool)
	if err != nil {
		return a.noSuchPool(ctx, srv, o.pool, err)
	}
	switch {
	case o.dryRun:
		return a.showPlan(plan, o)
	case plan.AsDeclared:
		return a.sayAsDeclared(plan, o)
	}
	view := a.newView(o, plan)
	destructive, err := a.approve(ctx, plan, o, view)
	if err != nil {
		return err
	}
	run, err := srv.Start(ctx, o.pool, api.StartRun{Plan: plan.Hash, Destructive: destructive, Key: o.key})
	if err != nil {
		return startError(o, err)
	}
	if o.detach {
		return a.detached(o, run)
	}
	return a.watch(ctx, srv, run, watchOptions{format: o.format, quiet: o.quiet, timeout: o.timeout, view: view, plan: &plan})
}

// noSuchPool turns "not found" into the pools that there are.
func (a *app) noSuchPool(ctx context.Context, srv server, name string, err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Status != http.StatusNotFound {
		return err
	}
	pools, listErr := srv.Pools(ctx)
	if listErr != nil || slices.ContainsFunc(pools, func(p api.Pool) bool { return p.Name == name }) {
		return err // it is something else that does not exist
	}
	return noPool(name, pools)
}

func (a *app) showPlan(plan api.Plan, o runOptions) error {
	if o.quiet {
		return nil
	}
	switch o.format {
	case "table", "wide":
		writePlan(a.stdout, plan, planStyle{server: a.serverTitle(), approved: o.yes, wide: o.format == "wide"})
		return nil
	case "json", "yaml":
		return writeOne(a.stdout, o.format, plan, plan.Pool, nil)
	default:
		return planListing(plan).write(a.stdout, o.format)
	}
}

func (a *app) sayAsDeclared(plan api.Plan, o runOptions) error {
	switch {
	case o.quiet:
		return nil
	case o.format == "json" || o.format == "yaml":
		return writeOne(a.stdout, o.format, outcome{Plan: plan}, plan.Pool, nil)
	case o.format == "table" || o.format == "wide":
		fmt.Fprintln(a.stdout, asDeclared(plan))
	}
	return nil
}

// startError adds to a stale plan what to do about it.
func startError(o runOptions, err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Hint != "" || exitOfStatus(p.Status) != exitConflict {
		return err
	}
	return &exitError{code: exitConflict, err: err, hint: "look again: provision --pool " + o.pool + " --dry-run"}
}

func (a *app) detached(o runOptions, run api.Run) error {
	return writeOne(a.stdout, o.format, run, run.ID, func(w io.Writer) {
		fmt.Fprintln(w, printable(run.ID))
		if !o.quiet {
			fmt.Fprintf(a.stderr, "watch it:  provision runs watch %s\n", printable(run.ID))
		}
	})
}
