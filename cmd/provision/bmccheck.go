package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func newBMCCheckCmd(a *app) *cobra.Command {
	var power, yes bool
	var profile string
	cmd := &cobra.Command{
		Use:   "check NODE",
		Short: "Test how far a node's BMC does what its standard says",
		Long: `Tests signing in, cipher suites, certificate, sessions, clock, serial console, virtual
media, power state and boot device, which is set, read back and taken back. With
--power the node is switched off and on too, and left as it was found.

What the drivers have to know about the BMC is a profile, for bmc_quirks: in
site.yaml, and for others with the same model.`,
		Example: `  provision bmc check prd-7
  provision bmc check prd-7 --power --profile contoso.yaml`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	f := cmd.Flags()
	f.BoolVar(&power, "power", false, "switch the node off and on too")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.StringVar(&profile, "profile", "", "write what the drivers have to know to this `file`")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		if power {
			if err := a.confirm(ctx, "Switch "+args[0]+" off and on?", "switching "+args[0]+" off and on", yes); err != nil {
				return err
			}
		}
		if _, err := srv.CheckBMC(ctx, args[0], api.CheckBMCRequest{Power: power}); err != nil {
			return err
		}
		r, err := awaitCheck(ctx, srv, args[0])
		if err != nil {
			return err
		}
		return a.showCheck(r, format, profile)
	})
}

// checkWait is how long one question for the end of a check lasts.
const checkWait = 30 * time.Second

func awaitCheck(ctx context.Context, srv server, ref string) (api.BMCCheck, error) {
	for {
		r, err := srv.BMCCheck(ctx, ref, checkWait)
		if err != nil || !r.Running {
			return r, err
		}
	}
}

// showCheck prints the table, and the profile where it is wanted. A check that
// found something broken is a failure.
func (a *app) showCheck(r api.BMCCheck, format, file string) error {
	if err := bmcResults(r.Results).write(a.stdout, format); err != nil {
		return err
	}
	switch {
	case r.Profile == "" && file != "":
		fmt.Fprintln(a.stderr, "nothing has to be known about this BMC: no profile was written")
	case r.Profile != "" && file != "":
		if err := os.WriteFile(file, []byte("bmc_quirks:\n"+r.Profile), 0o644); err != nil { //nolint:gosec // no secret
			return fmt.Errorf("write profile: %w", err)
		}
		fmt.Fprintf(a.stderr, "profile written to %s: add it to site.yaml\n", file)
	case r.Profile != "" && format == "table":
		fmt.Fprintf(a.stderr, "\nfor site.yaml:\n\nbmc_quirks:\n%s", printable(r.Profile))
	}
	failed := 0
	for _, it := range r.Results {
		if it.Grade == string(fleet.BMCFailed) {
			failed++
		}
	}
	if failed > 0 {
		return &exitError{code: exitConflict, err: fmt.Errorf("the BMC of %s fails %s", r.Node, plural(failed, "check"))}
	}
	return nil
}

func bmcResults(results []api.BMCResult) listing[api.BMCResult] {
	return listing[api.BMCResult]{
		items: results,
		name:  func(r api.BMCResult) string { return r.Check },
		columns: []column[api.BMCResult]{
			{"CHECK", false, func(r api.BMCResult) string { return r.Check }},
			{"RESULT", false, func(r api.BMCResult) string { return r.Grade }},
			{"DETAIL", false, func(r api.BMCResult) string { return r.Detail }},
			{"FIX", false, func(r api.BMCResult) string { return r.Fix }},
			{"SECONDS", true, func(r api.BMCResult) string { return fmt.Sprintf("%.1f", r.Took) }},
		},
	}
}

// bmcProfileYAML is the profile of a node's BMC as it stands in site.yaml; "" when
// nothing has to be known about it.
func bmcProfileYAML(n fleet.Node, r fleet.BMCCheck) string {
	q := r.Quirks
	q.Profile = ""
	if q == (fleet.BMCQuirks{}) {
		return ""
	}
	p := fleet.BMCProfile{Vendor: n.Inventory.Vendor, Product: n.Inventory.Product, Firmware: r.Model.Firmware, Quirks: q}
	if p.Vendor == "" || p.Product == "" { // of a machine that never said hello
		p.Vendor, p.Product = r.Model.Vendor, r.Model.Product
	}
	p.Quirks.Profile = profileName(p.Vendor, p.Product, p.Firmware)
	text, err := yaml.Marshal([]bmcQuirkFile{profileFileOf(p)})
	if err != nil {
		return ""
	}
	return string(text)
}

// profileName makes a name that is one of ours.
func profileName(words ...string) string {
	var parts []string
	for _, w := range words {
		w = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(w))
		parts = append(parts, strings.FieldsFunc(w, func(r rune) bool { return r == '-' })...)
	}
	name := strings.Join(parts, "-")
	name = strings.Trim(name[:min(len(name), 60)], "-")
	if !fleet.ValidName(name) {
		return "bmc"
	}
	return name
}
