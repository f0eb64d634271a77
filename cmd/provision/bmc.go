package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newBMCCmd(a *app) *cobra.Command {
	cmd := group("bmc", "Look at the BMCs of nodes, and how they are spoken to")
	cmd.AddCommand(newBMCProbeCmd(a), newBMCAcceptCmd(a), newBMCRotateCmd(a), newBMCShowCmd(a), newBMCLogCmd(a), newBMCBIOSCmd(a), newBMCUpdateCmd(a), newBMCCheckCmd(a))
	return cmd
}

func newBMCProbeCmd(a *app) *cobra.Command {
	var system string
	cmd := &cobra.Command{
		Use:   "probe NODE",
		Short: "Find out how a node's BMC is spoken to, and keep that",
		Long: `Signs in to the BMC: by Redfish, else by IPMI with cipher suite 17, else with 3,
unless the node's rule names a driver. What works is kept and used from then on.
The certificate of a BMC is pinned at the first time, and stays so.`,
		Example: `  provision bmc probe prd-7
  provision bmc probe blade-3 --system /redfish/v1/Systems/3`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	cmd.Flags().StringVar(&system, "system", "", "Redfish `path` of the node's system, where several are behind one BMC")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		n, err := srv.ProbeBMC(ctx, args[0], api.ProbeBMCRequest{System: system})
		if err != nil {
			return err
		}
		return a.powerPaths([]api.Node{n}).write(a.stdout, format)
	})
}

func newBMCAcceptCmd(a *app) *cobra.Command {
	var yes bool
	var pin string
	cmd := &cobra.Command{
		Use:   "accept NODE",
		Short: "Accept the TLS certificate that a node's BMC shows now",
		Long: `A BMC that shows another certificate than before is not spoken to: somebody
may stand in between, and our password would go to him. When you have renewed the
certificate, compare the fingerprint (SHA-256) with what the BMC's own page shows,
and accept it. An SSH host key, of a BMC whose console is reached over SSH, is
accepted by its fingerprint: --pin SHA256:…`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			srv, err := a.connect(ctx)
			if err != nil {
				return err
			}
			n, err := srv.Node(ctx, args[0])
			if err != nil {
				return err
			}
			if isHostKey := strings.HasPrefix(pin, "SHA256:"); !isHostKey && (n.Power == nil || n.Power.NewPin == "") {
				return &exitError{code: exitConflict, err: fmt.Errorf("the BMC of %s has shown no other certificate", nodeTitle(n))}
			}
			if pin == "" {
				pin = n.Power.NewPin
				fmt.Fprintf(a.stderr, "pinned  %s\nshown   %s\n", n.Power.Pin, pin)
				if err := a.confirm(ctx, "Accept the certificate that is shown?", "a new certificate of "+nodeTitle(n), yes); err != nil {
					return err
				}
			}
			if n, err = srv.AcceptPin(ctx, args[0], api.AcceptPinRequest{Pin: pin}); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: pinned %s\n", printable(nodeTitle(n)), pin)
			return nil
		},
	}
	cmd.Flags().StringVar(&pin, "pin", "", "accept this `fingerprint` only, without asking")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// powerPaths shows how nodes are switched.
func (a *app) powerPaths(nodes []api.Node) listing[api.Node] {
	field := func(f func(p api.PowerPath) string) func(api.Node) string {
		return func(n api.Node) string {
			if n.Power == nil {
				return dash("")
			}
			return dash(f(*n.Power))
		}
	}
	return listing[api.Node]{
		items: nodes,
		name:  nodeTitle,
		columns: []column[api.Node]{
			{"NODE", false, nodeTitle},
			{"DRIVER", false, field(func(p api.PowerPath) string { return p.Driver })},
			{"ADDRESS", false, field(func(p api.PowerPath) string { return p.Address })},
			{"USER", false, field(func(p api.PowerPath) string { return p.Username })},
			{"DETAIL", false, field(powerDetail)},
			{"CERTIFICATE", true, field(func(p api.PowerPath) string { return p.Pin })},
		},
	}
}

// powerDetail is what matters of a driver.
func powerDetail(p api.PowerPath) string {
	suite, outlets := "", ""
	if p.CipherSuite > 0 && (p.Driver == "ipmi" || p.Driver == "ipmitool") {
		suite = fmt.Sprintf("cipher suite %d", p.CipherSuite)
	}
	if len(p.Outlets) > 0 {
		outlets = fmt.Sprintf("%s outlets %v", p.PDU, p.Outlets)
	}
	return join(suite, p.System, prefixed("login ", p.Login), outlets, prefixed("quirks of ", p.Quirks), prefixed("waits to be accepted: certificate ", p.NewPin))
}
