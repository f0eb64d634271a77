package main

import (
	"context"

	"github.com/spf13/cobra"
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
		return a.each(ctx, refs, format, eachNode{
			what: "new BMC passwords", atOnce: rotateAtOnce, title: "PASSWORD", otherwise: "failed",
			do: func(ctx context.Context, ref string) (string, error) {
				_, err := srv.RotateBMC(ctx, ref)
				return "rotated", err
			},
		})
	})
}

// rotateAtOnce is how many BMCs get their passwords at the same time.
const rotateAtOnce = 32
