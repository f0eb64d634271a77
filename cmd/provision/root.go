package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/fleet"
)

// newRootCmd is the whole tree of commands. The root itself, with --pool, is
// short for `provision run --pool`.
func newRootCmd(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "provision",
		Short: "From power-on to the right cluster",
		Long: `provision boots bare machines over the network, installs an operating system
and Docker on them, and joins them to the cluster of their pool.

  sudo provision serve         the server: DHCP, TFTP, HTTP boot, API, console
  provision enrol list         machines that said hello and wait for approval
  provision --pool prd         make pool prd what site.yaml declares

` + exitCodesHelp,
		Example: `  provision --pool prd               show the plan, ask, converge, wait
  provision --pool prd --dry-run     show the plan only
  provision --pool prd --yes -o json for scripts
  provision nodes list state:failed  what is stuck, and why`,
		Args:          onlyCommands,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.pool == "" {
				return cmd.Help()
			}
			return a.converge(cmd.Context(), o)
		},
	}
	addRunFlags(a, cmd, &o)
	addGlobalFlags(a, cmd)
	cmd.AddCommand(
		newRunCmd(a), newServeCmd(a), newLabCmd(a), newRunsCmd(a), newNodesCmd(a), newEnrolCmd(a),
		newPoolsCmd(a), newApplyCmd(a), newImagesCmd(a), newPowerCmd(a), newBMCCmd(a), newSecretsCmd(a), newUsersCmd(a), newTemplatesCmd(a),
		newRelayCmd(a), newRelaysCmd(a), newCACmd(a), newVersionCmd(a),
		newSubnetsCmd(a), newLeasesCmd(a), newAlarmsCmd(a), newDoctorCmd(a), newBootCmd(a), newConsoleCmd(a),
	)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{code: exitUsage, err: err, hint: "see: " + cmd.CommandPath() + " --help"}
	})
	return cmd
}

func addGlobalFlags(a *app, cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.global.config, "config", "", "configuration `file` (default /etc/provision/provision.yaml)")
	f.StringVar(&a.global.server, "server", "", "`address` of the server: unix:PATH or https://HOST:PORT")
	f.StringVar(&a.global.tokenFile, "token-file", "", "`file` with the token to sign in with")
	f.BoolVar(&a.global.noColor, "no-color", false, "no colours (as NO_COLOR does)")
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

// onlyCommands says of a word that is no command what it may have meant.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see: " + cmd.CommandPath() + " --help"
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if near := fleet.Nearest(args[0], names); near != "" {
		hint = "did you mean: " + cmd.CommandPath() + " " + near
	}
	return &exitError{code: exitUsage, hint: hint, err: fmt.Errorf("%q has no command %q", cmd.CommandPath(), args[0])}
}
