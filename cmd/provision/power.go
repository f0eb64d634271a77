package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

// powerOps are the operations of `provision power`.
var powerOps = []struct {
	name, short string
	asks        bool // it interrupts what a node does
}{
	{"on", "Switch nodes on", false},
	{"off", "Switch nodes off, at once", true},
	{"cycle", "Switch nodes off and on again", true},
	{"status", "Ask the BMCs of nodes whether they are on", false},
	{"pxe-next", "Boot from the network at the next start, once", false},
}

func newPowerCmd(a *app) *cobra.Command {
	cmd := group("power", "Switch nodes through their BMCs")
	cmd.Long = "Every change is read back from the BMC: what is printed is what the BMC says now."
	for _, op := range powerOps {
		cmd.AddCommand(newPowerOpCmd(a, op.name, op.short, op.asks))
	}
	return cmd
}

func newPowerOpCmd(a *app, op, short string, asks bool) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:               op + " NODE…",
		Short:             short,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	if asks {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		if asks {
			what := fmt.Sprintf("power %s of %s", op, plural(len(args), "node"))
			if err := a.confirm(ctx, "Power "+op+" "+plural(len(args), "node")+"?", what, yes); err != nil {
				return err
			}
		}
		return a.power(ctx, srv, op, args, format)
	})
}

// powerResult is what became of one node.
type powerResult struct {
	Node  string `json:"node"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// power does the operation on each node; one that fails does not stop the
// others.
func (a *app) power(ctx context.Context, srv server, op string, refs []string, format string) error {
	var results []powerResult
	var failed []error
	for _, ref := range refs {
		state, err := srv.Power(ctx, ref, api.PowerRequest{Op: op})
		r := powerResult{Node: ref, State: state}
		if err != nil {
			failed = append(failed, err)
			r.State, r.Error, r.Hint = "unknown", err.Error(), hintOf(err)
		}
		results = append(results, r)
		if errors.Is(err, context.Canceled) || isUnreachable(err) {
			break
		}
	}
	if len(refs) == 1 && len(failed) == 1 {
		return failed[0]
	}
	if err := powerListing(results).write(a.stdout, format); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &exitError{code: exitCode(failed[0]), err: fmt.Errorf("power %s failed for %d of %s", op, len(failed), plural(len(refs), "node"))}
	}
	return nil
}

func powerListing(results []powerResult) listing[powerResult] {
	return listing[powerResult]{
		items: results,
		name:  func(r powerResult) string { return r.Node },
		columns: []column[powerResult]{
			{"NODE", false, func(r powerResult) string { return r.Node }},
			{"POWER", false, func(r powerResult) string { return r.State }},
			{"DETAIL", false, func(r powerResult) string { return r.Error }},
		},
	}
}
