package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func newBMCRotateCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "rotate NODE…|QUERY",
		Short: "Give the BMCs of nodes new passwords",
		Long: `Makes a new password for each BMC, has the BMC take it, signs in with it, and
forgets the one before only then. When a BMC does not answer in between, both are
kept until it says which it has. Nobody gets to see either.`,
		Example: `  provision bmc rotate prd-7
  provision bmc rotate pool:prd --yes`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		refs, err := nodesOf(ctx, srv, args)
		if err != nil {
			return err
		}
		what := "new BMC passwords for " + plural(len(refs), "node")
		if err := a.confirm(ctx, "Make "+what+"?", what, yes); err != nil {
			return err
		}
		return a.rotate(ctx, srv, refs, format)
	})
}

// rotateAtOnce is how many BMCs get their passwords at the same time.
const rotateAtOnce = 32

// rotate rotates all of them; one that fails does not stop the others.
func (a *app) rotate(ctx context.Context, srv server, refs []string, format string) error {
	results := make([]rotateResult, len(refs))
	var g errgroup.Group
	g.SetLimit(rotateAtOnce)
	for i, ref := range refs {
		g.Go(func() error {
			_, err := srv.RotateBMC(ctx, ref)
			results[i] = rotateResult{Node: ref, Result: "rotated", err: err}
			if err != nil {
				results[i].Result, results[i].Error, results[i].Hint = "failed", err.Error(), hintOf(err)
			}
			return nil
		})
	}
	_ = g.Wait() // each result has its own error
	var failed []error
	for _, r := range results {
		if errors.Is(r.err, context.Canceled) || isUnreachable(r.err) {
			return r.err // of our server: nobody else's fault
		}
		if r.err != nil {
			failed = append(failed, r.err)
		}
	}
	if len(refs) == 1 && len(failed) == 1 {
		return failed[0]
	}
	if err := rotateListing(results).write(a.stdout, format); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &exitError{code: exitCode(failed[0]), err: fmt.Errorf("%d of %s kept their BMC's password", len(failed), plural(len(refs), "node"))}
	}
	return nil
}

// rotateResult is what became of one node.
type rotateResult struct {
	Node   string `json:"node"`
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`

	err error
}

func rotateListing(results []rotateResult) listing[rotateResult] {
	return listing[rotateResult]{
		items: results,
		name:  func(r rotateResult) string { return r.Node },
		columns: []column[rotateResult]{
			{"NODE", false, func(r rotateResult) string { return r.Node }},
			{"PASSWORD", false, func(r rotateResult) string { return r.Result }},
			{"DETAIL", false, func(r rotateResult) string { return r.Error }},
		},
	}
}
