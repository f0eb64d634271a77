package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newNodesRescueCmd(a *app) *cobra.Command {
	var end, later, yes bool
	cmd := &cobra.Command{
		Use:   "rescue NODE",
		Short: "Boot a node into a shell, its disks read-only, or end that",
		Long: `Boots a node into the rescue system: our ramdisk with a shell on its consoles,
and by ssh for the ssh_keys of its pool's profile (user root). Its disks are
read-only until somebody there says otherwise. It gets nothing secret, and no
run touches it, until --end makes it what it was before.

The node is restarted by its BMC. Without one it restarts by itself where our
agent waits in the ramdisk; otherwise restart it by hand, from the network.`,
		Example: `  provision nodes rescue prd-7
  provision nodes rescue prd-7 --end`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: a.doing(func(ctx context.Context, srv server, args []string) error {
			n, err := srv.Node(ctx, args[0])
			if err != nil {
				return err
			}
			if !later && !end && n.State != "rescue" {
				question := fmt.Sprintf("Restart %s, which is %s, into the rescue system?", nodeTitle(n), n.State)
				if err := a.confirm(ctx, question, "rescue of "+nodeTitle(n), yes); err != nil {
					return err
				}
			}
			n, err = srv.Rescue(ctx, args[0], api.RescueRequest{End: end, Restart: !later})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, printable(rescueResult(n, later)))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&end, "end", false, "make it what it was before")
	cmd.Flags().BoolVar(&later, "no-restart", false, "leave it running: at its next start")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// rescueResult says what became of a node, and what is left to be done.
func rescueResult(n api.Node, later bool) string {
	text := fmt.Sprintf("%s is %s", nodeTitle(n), n.State)
	if n.Rescue != nil {
		text += ", was " + n.Rescue.From
	}
	switch {
	case later:
		return text + "; it boots accordingly at its next start"
	case n.BMC == "":
		return text + "; it has no BMC: restart it by hand, from the network"
	default:
		return text
	}
}

func rescueWord(r *api.Rescue) string {
	if r == nil {
		return ""
	}
	once := ""
	if r.Once {
		once = "until it starts again"
	}
	return join("was "+r.From, "since "+r.Since.UTC().Format("2006-01-02 15:04 UTC"), once)
}

func loaderWord(l *api.Loader) string {
	if l == nil {
		return ""
	}
	return join(l.File, l.Reason)
}
