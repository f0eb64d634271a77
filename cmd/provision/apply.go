package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

type applyOptions struct {
	file   string
	dryRun bool
	force  bool // arm subnets where another DHCP server answers
	yes    bool
	format string
}

func newApplyCmd(a *app) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f site.yaml",
		Short: "Declare stages, profiles, pools, subnets and rules",
		Long: `Makes a site.yaml the declared world: shows what differs, asks, then changes it.
No machine is touched: that is what provision --pool does.

A subnet starts to give out addresses (mode full or reserved) only where no
other DHCP server answers, unless known_dhcp lists it: the server asks before
it changes anything. --force-dhcp skips that.

  stages     name, registry
  profiles   name, image, disk (serial, model, min_gib, max_gib, type, largest), ssh_keys, kernel
  pools      name, stage, profile, cluster (swarm, none), managers, labels, trust (0, 1, 2), console (record)
  subnets    name, cidr, mode (observe, proxy, reserved, full), ranges, router, dns, ntp, domain, lease, server,
             known_dhcp, oob (BMCs get their addresses there)
  rules      name, match (mac, vendor, product, serial, asset_tag, subnet, switch_port, min_memory_mib),
             pool, role, labels, approve, bmc (username, password_file, driver, address, ipmi_port, https_port,
             cipher_suite, system, ca, pdu (model, outlets), enrol); without a password_file an account is
             made on each BMC, unless enrol is false
  bmc_accounts
             what BMCs come with: vendor, mac, serial, username, password_file
  bmc_ca     files with the authorities that sign certificates of BMCs, which may be renewed then`,
		Example: `  provision apply -f site.yaml
  provision apply -f site.yaml --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file == "" {
				return usagef("name a file: provision apply -f site.yaml")
			}
			if err := checkFormat(o.format); err != nil {
				return err
			}
			return a.apply(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "site.yaml `file`; - reads stdin")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what differs, change nothing")
	f.BoolVar(&o.force, "force-dhcp", false, "give out addresses even where another DHCP server does")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	addOutput(cmd, &o.format)
	return cmd
}

// apply checks the file here, so that what is wrong is shown in place, asks
// the server what differs, and lets it change that.
func (a *app) apply(ctx context.Context, o applyOptions) error {
	src, err := a.readSite(o.file)
	if err != nil {
		return err
	}
	if _, err := parseSite(o.file, src); err != nil {
		return err
	}
	srv, err := a.connect(ctx)
	if err != nil {
		return err
	}
	request := api.ApplyRequest{YAML: string(src), DryRun: true, ForceDHCP: o.force}
	changes, err := srv.Apply(ctx, request)
	if err != nil {
		return err
	}
	if len(changes) == 0 || o.dryRun {
		return a.tellChanges(a.stdout, changes, o.format, "")
	}
	if a.terminal && !o.yes {
		_ = a.tellChanges(a.stderr, changes, "table", "")
	}
	if err := a.confirm(ctx, "Apply "+plural(len(changes), "change")+"?", fmt.Sprintf("applying %s (%s)", o.file, plural(len(changes), "change")), o.yes); err != nil {
		return err
	}
	request.DryRun = false
	if changes, err = srv.Apply(ctx, request); err != nil {
		return err
	}
	return a.tellChanges(a.stdout, changes, o.format, "applied")
}

func (a *app) readSite(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, maxYAML+1))
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	return src, nil
}

func (a *app) tellChanges(w io.Writer, changes []string, format, done string) error {
	switch format {
	case "json", "jsonl", "yaml":
		return writeOne(w, format, api.ApplyReply{Changes: nonNil(changes)}, "", nil)
	}
	if len(changes) == 0 {
		fmt.Fprintln(w, "the site is as declared. Nothing to do.")
		return nil
	}
	for _, c := range changes {
		fmt.Fprintf(w, "  %s\n", printable(c))
	}
	if done != "" {
		fmt.Fprintf(w, "%s %s.\n", done, plural(len(changes), "change"))
	}
	return nil
}
