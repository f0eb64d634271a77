package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newBMCShowCmd(a *app) *cobra.Command {
	var fresh bool
	cmd := &cobra.Command{
		Use:   "show [NODE]",
		Short: "Show how machines are, as their BMCs say",
		Long: `Shows what BMCs said last: model, serial, firmware, power draw, temperatures,
fans, health, whether the machine is on or not. Without a node, one line for each.
The server asks every BMC again and again (bmc.check_every, 10 minutes).`,
		Example: `  provision bmc show
  provision bmc show prd-7
  provision bmc show prd-7 --fresh -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	cmd.Flags().BoolVar(&fresh, "fresh", false, "ask the node's BMC now")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		if len(args) == 0 {
			if fresh {
				return usagef("name a node: a fresh look at all of them takes its time")
			}
			all, err := srv.Checkups(ctx)
			if err != nil {
				return err
			}
			return checkupListing(all, time.Now()).write(a.stdout, format)
		}
		ask := srv.Checkup
		if fresh {
			ask = srv.Examine
		}
		c, err := ask(ctx, args[0])
		if err != nil {
			return err
		}
		if format == "csv" || format == "wide" {
			return checkupListing([]api.Checkup{c}, time.Now()).write(a.stdout, format)
		}
		return writeOne(a.stdout, format, c, c.Name, func(w io.Writer) { writeCheckup(w, c, time.Now()) })
	})
}

func newBMCLogCmd(a *app) *cobra.Command {
	var wipe, yes, fresh bool
	cmd := &cobra.Command{
		Use:   "log NODE",
		Short: "Show the event log of a node's BMC",
		Long: `Shows the newest entries of the log that the BMC keeps of its hardware (SEL).
With --clear the BMC's log is emptied, which also ends the alarm about its entries.`,
		Example: `  provision bmc log prd-7
  provision bmc log prd-7 --clear`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
	}
	cmd.Flags().BoolVar(&wipe, "clear", false, "empty the log of the BMC")
	cmd.Flags().BoolVar(&fresh, "fresh", false, "ask the node's BMC now")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		ask := srv.Checkup
		switch {
		case wipe:
			if err := a.confirm(ctx, "Empty the event log of "+args[0]+"'s BMC?", "an empty event log of "+args[0]+"'s BMC", yes); err != nil {
				return err
			}
			ask = srv.ClearBMCLog
		case fresh:
			ask = srv.Examine
		}
		c, err := ask(ctx, args[0])
		if err != nil {
			return err
		}
		return logListing(c.Log).write(a.stdout, format)
	})
}

func logListing(entries []api.LogEntry) listing[api.LogEntry] {
	return listing[api.LogEntry]{
		items: entries,
		name:  func(e api.LogEntry) string { return e.ID },
		columns: []column[api.LogEntry]{
			{"ID", false, func(e api.LogEntry) string { return e.ID }},
			{"TIME", false, func(e api.LogEntry) string { return clock(e.At) }},
			{"SEVERITY", false, func(e api.LogEntry) string { return dash(e.Health) }},
			{"NEW", false, func(e api.LogEntry) string { return map[bool]string{true: "new", false: ""}[e.New] }},
			{"TEXT", false, func(e api.LogEntry) string { return e.Text }},
		},
	}
}

func clock(t *time.Time) string {
	if t == nil {
		return dash("")
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func checkupListing(all []api.Checkup, now time.Time) listing[api.Checkup] {
	text := func(f func(api.Checkup) string) func(api.Checkup) string {
		return func(c api.Checkup) string { return dash(f(c)) }
	}
	return listing[api.Checkup]{
		items: all,
		name:  func(c api.Checkup) string { return c.Name },
		columns: []column[api.Checkup]{
			{"NODE", false, func(c api.Checkup) string { return c.Name }},
			{"HEALTH", false, text(func(c api.Checkup) string { return c.Health })},
			{"POWER", false, text(func(c api.Checkup) string { return c.Power })},
			{"DRAW", false, text(func(c api.Checkup) string { return watts(c.Watts) })},
			{"HOTTEST", false, text(hottest)},
			{"MODEL", false, text(func(c api.Checkup) string { return strings.TrimSpace(c.Vendor + " " + c.Model) })},
			{"SERIAL", false, text(func(c api.Checkup) string { return c.Serial })},
			{"BIOS", false, text(func(c api.Checkup) string { return versionOf(c, "BIOS") })},
			{"BMC", false, text(func(c api.Checkup) string { return versionOf(c, "BMC") })},
			{"READ", false, func(c api.Checkup) string { return readAgo(c, now) }},
			{"FAULTS", true, text(func(c api.Checkup) string { return faultLine(c) })},
		},
	}
}

func watts(w float64) string {
	if w == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f W", w)
}

func hottest(c api.Checkup) string {
	if c.Hottest == nil {
		return ""
	}
	return fmt.Sprintf("%.0f %s", c.Hottest.Value, c.Hottest.Unit)
}

// versionOf is the version of a component that every machine has.
func versionOf(c api.Checkup, id string) string {
	for _, f := range c.Firmware {
		if strings.EqualFold(f.ID, id) {
			return f.Version
		}
	}
	return ""
}

func readAgo(c api.Checkup, now time.Time) string {
	if c.At == nil {
		return "never"
	}
	return since(now, *c.At) + " ago"
}

func faultLine(c api.Checkup) string {
	var parts []string
	for _, f := range c.Faults {
		parts = append(parts, strings.TrimSpace(f.Part+" "+cmp.Or(f.Detail, f.Health)))
	}
	return strings.Join(parts, ", ")
}

// writeCheckup shows one machine to people.
func writeCheckup(w io.Writer, c api.Checkup, now time.Time) {
	var rows [][]string
	fact := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	fact("node", c.Name)
	fact("read", readAgo(c, now)+prefixed(" by ", c.Via))
	if c.Failed > 0 {
		fact("no answer", fmt.Sprintf("%d times since: %s", c.Failed, c.Error))
	}
	fact("health", dash(c.Health))
	for _, f := range c.Faults {
		fact("", strings.TrimSpace(f.Part+" "+cmp.Or(f.Detail, f.Health)))
	}
	fact("power", join(c.Power, watts(c.Watts)))
	fact("model", strings.TrimSpace(c.Vendor+" "+c.Model))
	fact("serial", c.Serial)
	fact("part", c.Part)
	fact("asset tag", c.AssetTag)
	if c.Cores > 0 {
		fact("processor", join(strings.Join(c.Processors, " + "), plural(c.Cores, "core")))
	}
	if c.MemoryMiB > 0 {
		fact("memory", fmt.Sprintf("%d GiB", c.MemoryMiB/1024))
	}
	fact("network", strings.Join(c.MACs, ", "))
	for _, f := range c.Firmware {
		fact("firmware", f.ID+" "+dash(f.Version))
	}
	if c.LogTotal > 0 {
		fact("event log", fmt.Sprintf("%d entries; see: provision bmc log %s", c.LogTotal, c.Name))
	}
	fact("not offered", strings.Join(c.Lacks, ", "))
	writeTable(w, nil, rows)
	if len(c.Sensors) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows = nil
	for _, s := range c.Sensors {
		limit := ""
		if s.Upper > 0 {
			limit = fmt.Sprintf("%.4g %s", s.Upper, s.Unit)
		}
		rows = append(rows, []string{s.Name, s.Kind, fmt.Sprintf("%.4g %s", s.Value, s.Unit), dash(limit), dash(s.Health)})
	}
	writeTable(w, []string{"SENSOR", "KIND", "VALUE", "CRITICAL", "HEALTH"}, rows)
}
