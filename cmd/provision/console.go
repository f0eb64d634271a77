package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

type consoleOptions struct {
	log, records, raw bool
	record            string
	since             string
	grep              string
	lines             int
	take, readOnly    bool
	format            string
}

func newConsoleCmd(a *app) *cobra.Command {
	var o consoleOptions
	cmd := &cobra.Command{
		Use:   "console NODE",
		Short: "Sit before a machine's serial console; ~. to leave",
		Long: `Connects the terminal with the serial console of a machine, through its BMC.
Several people can watch and type at the same time; each is told of the others.
Without a terminal the console is only read, until Ctrl-C.
` + escapeHelpText + `
With --log it prints what was recorded: while a run worked on the machine, and
always in pools with console: record.`,
		Example: `  provision console prd-r03-06
  provision console prd-r03-06 --log --since 2h
  provision console prd-r03-06 --log --grep 'panic|error'
  provision console prd-r03-06 --records
  provision console prd-r03-06 --raw --record ID | less -R`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			srv, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			return a.console(cmd.Context(), srv, args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.log, "log", false, "print what was recorded, as text")
	f.BoolVar(&o.records, "records", false, "list what was recorded")
	f.BoolVar(&o.raw, "raw", false, "print a record as the machine wrote it, colours and all")
	f.StringVar(&o.record, "record", "", "one record only; an `ID` from --records")
	f.StringVar(&o.since, "since", "", "from this `time` on: 2h, 2026-11-21T09:00:00Z")
	f.StringVar(&o.grep, "grep", "", "lines that match this regular `expression`")
	f.IntVar(&o.lines, "lines", 1000, "the newest so `many` lines")
	f.BoolVar(&o.take, "take", false, "take the console from whoever has it open at the BMC")
	f.BoolVar(&o.readOnly, "read-only", false, "watch, type nothing")
	addOutput(cmd, &o.format)
	return cmd
}

// check finds out what does not go together.
func (o *consoleOptions) check() error {
	if o.since != "" || o.grep != "" || o.record != "" && !o.raw {
		o.log = true
	}
	switch {
	case o.log && o.raw:
		return usagef("--raw prints one record whole; leave out --log, --since and --grep")
	case o.raw && o.record == "":
		return usagef("--raw needs --record ID; list them with --records")
	case o.records && (o.log || o.raw):
		return usagef("--records lists records; leave out the other flags")
	case (o.log || o.records || o.raw) && (o.take || o.readOnly):
		return usagef("--take and --read-only are for a console that is open")
	}
	return checkFormat(o.format)
}

func (a *app) console(ctx context.Context, srv server, ref string, o consoleOptions) error {
	switch {
	case o.records:
		return a.consoleRecords(ctx, srv, ref, o.format)
	case o.raw:
		return srv.RawConsole(ctx, ref, o.record, a.stdout)
	case o.log:
		return a.consoleLog(ctx, srv, ref, o)
	}
	return a.sitBefore(ctx, srv, ref, o)
}

func (a *app) consoleRecords(ctx context.Context, srv server, ref, format string) error {
	records, err := srv.ConsoleRecords(ctx, ref)
	if err != nil {
		return err
	}
	err = listing[api.ConsoleRecord]{
		items: records,
		name:  func(r api.ConsoleRecord) string { return r.ID },
		columns: []column[api.ConsoleRecord]{
			{"RECORD", false, func(r api.ConsoleRecord) string { return r.ID }},
			{"BEGAN", false, func(r api.ConsoleRecord) string { return since(a.now(), r.Began) }},
			{"LASTED", false, func(r api.ConsoleRecord) string {
				if r.Ended.IsZero() {
					return "goes on"
				}
				return took(r.Ended.Sub(r.Began))
			}},
			{"SIZE", false, func(r api.ConsoleRecord) string { return bytesOf(r.Bytes) }},
			{"WHY", false, func(r api.ConsoleRecord) string { return r.Why }},
		},
	}.write(a.stdout, format)
	if err == nil && len(records) == 0 && format == "table" {
		fmt.Fprintln(a.stderr, "Nothing was recorded. Consoles are while a run works on a node, and always in pools with console: record.")
	}
	return err
}

// consoleLog prints lines that were recorded. When there are none that match, it
// ends as grep does.
func (a *app) consoleLog(ctx context.Context, srv server, ref string, o consoleOptions) error {
	q := api.ConsoleQuery{Record: o.record, Match: o.grep, Limit: o.lines}
	var err error
	if q.Since, err = sinceWhen(o.since, a.now()); err != nil {
		return err
	}
	log, err := srv.ConsoleLog(ctx, ref, q)
	if err != nil {
		return err
	}
	if o.format != "table" && o.format != "wide" {
		err = listing[api.ConsoleLine]{
			items: log.Lines, name: func(l api.ConsoleLine) string { return l.Text },
			columns: []column[api.ConsoleLine]{
				{"AT", false, func(l api.ConsoleLine) string { return l.At.UTC().Format(time.RFC3339Nano) }},
				{"RECORD", false, func(l api.ConsoleLine) string { return l.Record }},
				{"TEXT", false, func(l api.ConsoleLine) string { return l.Text }},
			},
		}.write(a.stdout, o.format)
	} else {
		a.writeConsole(log)
	}
	if err == nil && len(log.Lines) == 0 && o.grep != "" {
		return exit(exitFailed)
	}
	return err
}

func (a *app) writeConsole(log api.ConsoleLog) {
	if log.More {
		fmt.Fprintln(a.stderr, "There are older lines: see --lines, --since and --record.")
	}
	record := ""
	for _, l := range log.Lines {
		if l.Record != record && record != "" {
			fmt.Fprintln(a.stdout)
		}
		record = l.Record
		fmt.Fprintf(a.stdout, "%s  %s\n", l.At.UTC().Format("2006-01-02 15:04:05"), printable(l.Text))
	}
}

// sinceWhen reads "2h" and times.
func sinceWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage(errors.New("--since " + text + " is no time; write 2h, 2026-11-21 or 2026-11-21T09:00:00Z"))
}
