package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newBMCUpdateCmd(a *app) *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "update NODE",
		Short: "Bring a machine's firmware to the versions that the site declares",
		Long: `Compares the machine's firmware with firmware: in site.yaml, has its BMC fetch and
install what differs, one component after the other, and reads the versions back.
Some count from the machine's next start on: --restart restarts it.

A node that serves its cluster is not restarted: move its work away first, then
repeat it with --force. What a pool says with firmware: in site.yaml is done by
runs, before a machine is installed.`,
		Example: `  provision bmc update prd-7 --dry-run
  provision bmc update prd-7 --component BIOS --restart`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	f := cmd.Flags()
	f.BoolVar(&o.dry, "dry-run", false, "only show what differs, and what is under way")
	f.StringVar(&o.request.Component, "component", "", "update this `component` only")
	f.BoolVar(&o.request.Restart, "restart", false, "restart the machine where that is needed")
	f.BoolVar(&o.request.Force, "force", false, "restart it although it serves its cluster")
	f.DurationVar(&o.timeout, "timeout", time.Hour, "wait at most this long; the update goes on; 0: do not wait")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		return a.updateFirmware(ctx, srv, args[0], o, format)
	})
}

type updateOptions struct {
	dry, yes bool
	request  api.UpdateFirmwareRequest
	timeout  time.Duration
}

func (a *app) updateFirmware(ctx context.Context, srv server, ref string, o updateOptions, format string) error {
	all, err := srv.Firmware(ctx, ref)
	if err != nil || o.dry {
		return a.firmware(all, format, err)
	}
	todo := slices.ContainsFunc(all, func(u api.FirmwareUpdate) bool {
		return u.State != "done" && (o.request.Component == "" || u.Component == o.request.Component)
	})
	if !todo {
		fmt.Fprintf(a.stderr, "%s: the firmware is as declared\n", printable(ref))
		return nil
	}
	if err := a.firmware(all, format, nil); err != nil {
		return err
	}
	if err := a.confirm(ctx, "Update these on "+ref+"?", "new firmware on "+ref, o.yes); err != nil {
		return err
	}
	if _, err := srv.UpdateFirmware(ctx, ref, o.request); err != nil {
		return err
	}
	return a.awaitFirmware(ctx, srv, ref, o.timeout)
}

// firmwarePoll is how often the server is asked. It has the answer itself.
const firmwarePoll = 2 * time.Second

func (a *app) awaitFirmware(ctx context.Context, srv server, ref string, timeout time.Duration) error {
	if timeout <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for said := ""; ; {
		all, err := srv.Firmware(ctx, ref)
		if err != nil {
			return err
		}
		over := true
		for _, u := range all {
			line := fmt.Sprintf("%s %s, %d %%", u.Component, u.State, u.Percent)
			switch u.State {
			case "failed":
				return &exitError{code: exitConflict, err: fmt.Errorf("%s of %s: %s", u.Component, ref, u.Error), hint: "look at the log of its BMC: provision bmc log " + ref}
			case "waiting":
				over = false
			case "running":
				over = false
				if line != said {
					fmt.Fprintln(a.stderr, printable(line))
					said = line
				}
			}
		}
		if over {
			return a.firmware(all, "table", nil)
		}
		select {
		case <-time.After(firmwarePoll):
		case <-ctx.Done():
			return &exitError{code: exitTimeout, err: fmt.Errorf("the update of %s is not over after %s; it goes on", ref, timeout), hint: "see: provision bmc update --dry-run " + ref}
		}
	}
}

func (a *app) firmware(all []api.FirmwareUpdate, format string, err error) error {
	if err != nil {
		return err
	}
	return listing[api.FirmwareUpdate]{
		items: all,
		name:  func(u api.FirmwareUpdate) string { return u.Component },
		columns: []column[api.FirmwareUpdate]{
			{"COMPONENT", false, func(u api.FirmwareUpdate) string { return u.Component }},
			{"IS", false, func(u api.FirmwareUpdate) string { return dash(u.Is) }},
			{"WANTED", false, func(u api.FirmwareUpdate) string { return u.Want }},
			{"STATE", false, firmwareState},
			{"DETAIL", false, func(u api.FirmwareUpdate) string { return u.Error }},
			{"IMAGE", true, func(u api.FirmwareUpdate) string { return u.URL }},
		},
	}.write(a.stdout, format)
}

func firmwareState(u api.FirmwareUpdate) string {
	switch {
	case u.Missing:
		return "the machine has no such component"
	case u.State == "running":
		return fmt.Sprintf("%s, %d %%", u.State, u.Percent)
	}
	return u.State
}
