package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

// areas are what the doctor can look at, in this order.
var areas = []string{"server", "net", "boot"}

func newDoctorCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:       "doctor [" + strings.Join(areas, "|") + "]",
		Short:     "Let the server look at itself and its networks; says what is wrong and how to mend it",
		Example:   "  provision doctor\n  provision doctor net -o json",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: areas,
	}
	return a.asking(cmd, func(ctx context.Context, srv server, args []string, format string) error {
		found, err := srv.Doctor(ctx)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			found = slices.DeleteFunc(found, func(c api.Check) bool { return c.Area != args[0] })
		}
		return a.tellDoctor(found, format)
	})
}

// tellDoctor prints what was found. A check that failed is the exit code.
func (a *app) tellDoctor(found []api.Check, format string) error {
	if format == "table" {
		showChecks(a.stdout, found)
	} else if err := checkListing(found).write(a.stdout, format); err != nil {
		return err
	}
	count := map[string]int{}
	for _, c := range found {
		count[c.State]++
	}
	fmt.Fprintf(a.stderr, "%d failed, %s, %d ok\n", count[checkFailed], plural(count[checkWarning], "warning"), count[checkOK])
	if count[checkFailed] > 0 {
		return exit(exitFailed)
	}
	return nil
}

func checkListing(found []api.Check) listing[api.Check] {
	return listing[api.Check]{
		items: found,
		name:  func(c api.Check) string { return c.Code },
		columns: []column[api.Check]{
			{"AREA", false, func(c api.Check) string { return c.Area }},
			{"STATE", false, func(c api.Check) string { return c.State }},
			{"CODE", false, func(c api.Check) string { return dash(c.Code) }},
			{"WHAT", false, func(c api.Check) string { return c.Text }},
			{"FIX", false, func(c api.Check) string { return dash(c.Fix) }},
		},
	}
}

// showChecks prints them by area, as people read them.
func showChecks(w io.Writer, found []api.Check) {
	marks := map[string]string{checkOK: "✓", checkWarning: "!", checkFailed: "✗"}
	for _, area := range areas {
		title := area
		for _, c := range found {
			if c.Area != area {
				continue
			}
			if title != "" {
				fmt.Fprintln(w, title)
				title = ""
			}
			text := printable(c.Text)
			if c.Code != "" {
				text = c.Code + "  " + text
			}
			fmt.Fprintf(w, "  %s %s\n", marks[c.State], strings.ReplaceAll(text, "\n", " "))
			if c.Fix != "" {
				fmt.Fprintf(w, "      fix: %s\n", strings.ReplaceAll(printable(c.Fix), "\n", " "))
			}
		}
	}
}
