package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/lab"
)

const defaultLabDir = "/var/lib/provision-lab"

func newLabCmd(a *app) *cobra.Command {
	return group("lab", "A virtual rack on this machine", newLabUpCmd(a), newLabDownCmd(a), newLabStatusCmd(a), newLabHookCmd(a))
}

func newLabUpCmd(a *app) *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build a virtual rack, start a server in it and make pool prd a Swarm",
		Long: `Builds a rack of virtual machines with real firmware and BMCs, of which each
third speaks Redfish beside IPMI, in a network namespace of its own, starts
` + "`provision serve`" + ` in it, lets the machines enrol, and runs
` + "`provision --pool prd`" + `. Nothing leaves the namespace; the console is forwarded
to a loopback address. Ctrl-C tears all down.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.labUp(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	labDirFlag(cmd, &o.dir)
	f.IntVar(&o.nodes, "nodes", 3, "`number` of machines; the first has BIOS, the others UEFI")
	f.StringVar(&o.state, "images-from", "", "state `folder` with the images (default: that of the server's configuration)")
	f.StringVar(&o.listen, "console", "127.0.0.1:8080", "loopback `address` for the console")
	f.BoolVar(&o.once, "once", false, "tear down when the pool has converged, and exit")
	return cmd
}

func labDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", defaultLabDir, "`folder` for disks, logs and state of the rack")
}

func newLabDownCmd(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "down", Short: "End the rack, also one that a crash has left", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.Down(cmd.Context(), rackDir(dir)); err != nil {
				return labError("end the rack", err)
			}
			fmt.Fprintln(a.stdout, "the rack is gone; its logs are in", dir)
			return nil
		},
	}
	labDirFlag(cmd, &dir)
	return cmd
}

func newLabStatusCmd(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "status", Short: "Show the machines of the rack", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := lab.Open(rackDir(dir))
			if err != nil {
				return labError("find the rack", err)
			}
			return errors.Join(printRack(a.stdout, r.Status(), r.Console), r.Release())
		},
	}
	labDirFlag(cmd, &dir)
	return cmd
}

// printRack prints a table of the machines; console tells where a machine's
// console is written to.
func printRack(w io.Writer, machines []lab.Status, console func(name string) (string, error)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINE\tFIRMWARE\tMAC\tPOWER\tBMC\tSPEAKS\tNEXT-BOOT\tCONSOLE-LOG")
	for _, s := range machines {
		m := s.Machine
		log, err := console(m.Name)
		if err != nil {
			return err
		}
		power, bmc := "off", "down"
		if s.On {
			power = "on"
		}
		if s.BMC {
			bmc = m.BMC.Address.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Firmware, m.MAC, power, bmc, m.BMC.Speaks, cmp.Or(s.Boot, "-"), log)
	}
	return t.Flush()
}

// newLabHookCmd is what the BMCs of a rack run; see lab.Hook.
func newLabHookCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "hook DIR ARG...", Hidden: true, DisableFlagParsing: true, Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.Hook(cmd.Context(), args[0], args[1:], a.stdout)
		},
	}
}

func rackDir(dir string) string { return filepath.Join(dir, "rack") }

func labError(op string, err error) error {
	if missing, ok := errors.AsType[*lab.MissingError](err); ok {
		return &exitError{code: exitFailed, err: fmt.Errorf("%s: %w", op, err), hint: missing.Hint()}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// labOptions are the flags of `lab up`.
type labOptions struct {
	dir    string
	nodes  int
	state  string // state folder that images and boot files are taken from
	listen string
	once   bool
}

// labUp is the main job, from bare machines to a Swarm.
func (a *app) labUp(ctx context.Context, o labOptions) (err error) {
	if os.Geteuid() != 0 {
		return &exitError{code: exitDenied, err: errors.New("the lab makes a network namespace, for which it has to be root"), hint: "sudo " + strings.Join(os.Args, " ")}
	}
	if o.state == "" {
		conf, err := a.loadConfig(nil)
		if err != nil {
			return err
		}
		o.state = conf.StateDir
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, err := raiseLab(ctx, labPlan{dir: o.dir, state: o.state, machines: lab.DefaultRack(o.nodes), site: labSite, hook: self})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.down()) }() //nolint:contextcheck // the rack is torn down after Ctrl-C too
	return a.labRun(ctx, r, o)
}

func (a *app) labRun(ctx context.Context, r *labRack, o labOptions) error {
	say := func(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }
	say("rack up: %d machines, %s, namespace %s", len(r.rack.Machines()), r.accel, r.rack.Namespace())
	if err := r.startServer(ctx); err != nil {
		return err
	}
	forward, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if err := r.rack.Forward(forward, o.listen, labConsole); err != nil && forward.Err() == nil {
			say("console is not reachable: %v", err)
		}
	}()
	say("console: http://%s  (demo/demo)", o.listen)
	if err := r.enrol(ctx, say); err != nil {
		return err
	}
	if err := a.labConverge(ctx, r); err != nil {
		return err
	}
	if err := r.show(ctx, a.stdout); err != nil {
		return err
	}
	if o.once {
		return nil
	}
	say("\nconsole: http://%s  (demo/demo)      Ctrl-C tears all down", o.listen)
	<-ctx.Done()
	return nil
}

// labConverge is `provision --pool prd`, as a user would call it.
func (a *app) labConverge(ctx context.Context, r *labRack) error {
	fmt.Fprintln(a.stderr, "\n$ provision --pool prd")
	sub := *a
	sub.global.server = "unix:" + r.socket()
	sub.connect = sub.dial
	return sub.converge(ctx, runOptions{pool: "prd", yes: true, progress: "auto", format: "table", timeout: labTimeout})
}
