package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newBMCBIOSCmd(a *app) *cobra.Command {
	var o biosOptions
	cmd := &cobra.Command{
		Use:   "bios NODE",
		Short: "Compare a machine's BIOS settings with its profile, and change them",
		Long: `Shows which BIOS settings are not as the node's profile has them (bios: in
site.yaml, for each model). With --apply they are set, the machine is restarted,
and the settings are read again until they are as declared.

A node that serves its cluster is not restarted: move its work away first, then
repeat it with --force. What a pool says with bios: in site.yaml is done by runs,
before a machine is installed.`,
		Example: `  provision bmc bios prd-7
  provision bmc bios prd-7 --all
  provision bmc bios prd-7 --apply`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "show all settings that the machine has")
	f.BoolVar(&o.apply, "apply", false, "change the settings, and restart the machine")
	f.DurationVar(&o.timeout, "timeout", 20*time.Minute, "wait at most this long for the machine to take them; 0: do not wait")
	f.BoolVar(&o.request.Force, "force", false, "restart it although it serves its cluster")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		return a.bios(ctx, srv, args[0], o, format)
	})
}

type biosOptions struct {
	all, apply, yes bool
	request         api.ApplyBIOSRequest
	timeout         time.Duration
}

func (a *app) bios(ctx context.Context, srv server, ref string, o biosOptions, format string) error {
	b, err := srv.BIOS(ctx, ref)
	switch {
	case err != nil:
		return err
	case o.all:
		return attributeListing(b.Attributes).write(a.stdout, format)
	case !o.apply || len(b.Changes) == 0:
		return a.writeBIOS(b, format)
	}
	what := fmt.Sprintf("%s changed on %s, and a restart", plural(len(b.Changes), "BIOS setting"), ref)
	if err := a.writeBIOS(b, format); err != nil {
		return err
	}
	if err := a.confirm(ctx, "Change these and restart "+ref+"?", what, o.yes); err != nil {
		return err
	}
	if _, err := srv.ApplyBIOS(ctx, ref, o.request); err != nil {
		return err
	}
	return a.awaitBIOS(ctx, srv, ref, o.timeout)
}

// biosPoll is how often the server is asked, which asks the BMC.
const biosPoll = 10 * time.Second

// awaitBIOS waits until the machine has the settings. It cannot be asked while
// it restarts, with some.
func (a *app) awaitBIOS(ctx context.Context, srv server, ref string, timeout time.Duration) error {
	if timeout <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		b, err := srv.BIOS(ctx, ref)
		if err == nil && len(b.Changes) == 0 {
			fmt.Fprintf(a.stderr, "%s: the BIOS settings are as declared\n", printable(ref))
			return nil
		}
		if isUnreachable(err) {
			return err
		}
		select {
		case <-time.After(biosPoll):
		case <-ctx.Done():
			return &exitError{code: exitTimeout, err: fmt.Errorf("%s has not taken its BIOS settings within %s", ref, timeout), hint: "see: provision bmc bios " + ref}
		}
	}
}

func (a *app) writeBIOS(b api.BIOS, format string) error {
	if len(b.Changes) == 0 && format == "table" {
		fmt.Fprintf(a.stdout, "%s: the BIOS settings are as declared\n", printable(b.Name))
		return nil
	}
	return biosListing(b.Changes).write(a.stdout, format)
}

func biosListing(changes []api.BIOSChange) listing[api.BIOSChange] {
	return listing[api.BIOSChange]{
		items: changes,
		name:  func(c api.BIOSChange) string { return c.Name },
		columns: []column[api.BIOSChange]{
			{"SETTING", false, func(c api.BIOSChange) string { return c.Name }},
			{"IS", false, func(c api.BIOSChange) string { return dash(c.Is) }},
			{"WANTED", false, func(c api.BIOSChange) string { return c.Want }},
			{"STATE", false, biosState},
		},
	}
}

func biosState(c api.BIOSChange) string {
	switch {
	case c.Unknown:
		return "the machine has no such setting"
	case c.Pending:
		return "from the next start on"
	}
	return "differs"
}

// An attribute is one setting as a machine has it.
type attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func attributeListing(all map[string]string) listing[attribute] {
	l := listing[attribute]{
		name: func(x attribute) string { return x.Name },
		columns: []column[attribute]{
			{"SETTING", false, func(x attribute) string { return x.Name }},
			{"VALUE", false, func(x attribute) string { return x.Value }},
		},
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l.items = append(l.items, attribute{name, all[name]})
	}
	return l
}
