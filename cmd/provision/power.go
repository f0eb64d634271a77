package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// powerOps are the operations of `provision power`.
var powerOps = []struct {
	op    fleet.PowerOp
	short string
	asks  bool // it interrupts what a node does
}{
	{fleet.PowerOn, "Switch nodes on", false},
	{fleet.PowerOff, "Switch nodes off, at once", true},
	{fleet.PowerSoft, "Ask the systems of nodes to shut down, and wait until they have", true},
	{fleet.PowerCycle, "Switch nodes off and on again", true},
	{fleet.PowerReset, "Restart nodes without switching them off", true},
	{fleet.PowerNMI, "Have the systems of nodes write a crash dump (NMI)", true},
	{fleet.PowerStatus, "Ask the BMCs of nodes whether they are on", false},
	{fleet.PXENext, "Boot from the network at the next start", false},
	{fleet.DiskNext, "Boot from the disk at the next start", false},
	{fleet.CDROMNext, "Boot from the CD, or what the BMC shows as one, at the next start", false},
	{fleet.SetupNext, "Enter the firmware's setup at the next start", false},
	{fleet.HTTPNext, "Boot from a URL (UEFI HTTP boot) at the next start", false},
	{fleet.MediaNext, "Have the BMC fetch a CD image, and boot from it at the next start", false},
	{fleet.MediaEject, "Take the CD image out of the BMC's virtual drive", false},
}

func newPowerCmd(a *app) *cobra.Command {
	cmd := group("power", "Switch nodes through their BMCs")
	cmd.Long = `Nodes are names, MAC addresses or IDs, or one query: power status 'pool:prd state:failed'.
They are switched at the same time, each through its own BMC. Every change is read
back from the BMC: what is printed is what the BMC says now.`
	for _, op := range powerOps {
		cmd.AddCommand(newPowerOpCmd(a, op.op, op.short, op.asks))
	}
	cmd.AddCommand(newPowerDoneCmd(a))
	return cmd
}

func newPowerDoneCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "done NODE",
		Short: "Say that you have done what was asked for at a node without a BMC",
		Long: `Nodes whose driver is manual are switched by people, and those that are woken over
the network are switched off by them: an alarm says what is to be done. When you have
done it, say so. A machine that boots says so itself.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			srv, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			n, err := srv.PowerDone(cmd.Context(), args[0])
			if err == nil {
				fmt.Fprintf(a.stdout, "%s: noted\n", printable(nodeTitle(n)))
			}
			return err
		},
	}
}

func newPowerOpCmd(a *app, op fleet.PowerOp, short string, asks bool) *cobra.Command {
	var yes bool
	r := api.PowerRequest{Op: string(op)}
	cmd := &cobra.Command{
		Use:               string(op) + " NODE…|QUERY",
		Short:             short,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	f := cmd.Flags()
	if asks {
		f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	if op != fleet.PowerStatus {
		f.StringVar(&r.Reason, "reason", "", "why, for the record")
	}
	if op.SetsBoot() {
		f.BoolVar(&r.Persist, "persist", false, "at each start from now on, not the next one only")
		f.StringVar(&r.Firmware, "firmware", "", "bios or uefi shall boot (default: what the node has)")
	}
	switch op {
	case fleet.HTTPNext:
		f.StringVar(&r.URL, "url", "", "what to boot (default: what DHCP says)")
	case fleet.MediaNext:
		f.StringVar(&r.URL, "url", "", "of the image, as the BMC reaches it (default: one of ours, made for the node and for one boot)")
	default:
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		if r.Firmware != "" && r.Firmware != "bios" && r.Firmware != "uefi" {
			return usagef("--firmware is bios or uefi, not %q", r.Firmware)
		}
		if op == fleet.MediaNext && r.URL == "" && r.Persist {
			return usagef("--persist needs --url: an image of ours is for one boot")
		}
		refs, err := nodesOf(ctx, srv, args)
		if err != nil {
			return err
		}
		if asks {
			what := fmt.Sprintf("power %s of %s", op, plural(len(refs), "node"))
			if err := a.confirm(ctx, "Power "+string(op)+" "+plural(len(refs), "node")+"?", what, yes); err != nil {
				return err
			}
		}
		return a.each(ctx, refs, format, eachNode{
			what: "power " + string(op), atOnce: powerAtOnce, title: "POWER", otherwise: "unknown",
			do: func(ctx context.Context, ref string) (string, error) { return srv.Power(ctx, ref, r) },
		})
	})
}

// facet is what makes words a query: pool:prd, -arch:arm64. MAC addresses have
// colons too.
var facet = regexp.MustCompile(`^-?[a-z]+:[^:]*$`)

// nodesOf returns what the words of a command line name: nodes as they stand
// there, or those that a query finds.
func nodesOf(ctx context.Context, srv server, args []string) ([]string, error) {
	words := strings.Fields(strings.Join(args, " "))
	query := false
	for _, w := range words {
		query = query || facet.MatchString(w)
	}
	if !query {
		return args, nil
	}
	nodes, err := srv.AllNodes(ctx, strings.Join(words, " "))
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, usagef("no node is %s", strings.Join(words, " "))
	}
	var refs []string
	for _, n := range nodes {
		refs = append(refs, nodeTitle(n))
	}
	return refs, nil
}

// powerAtOnce is how many nodes are asked for at the same time.
const powerAtOnce = 64
