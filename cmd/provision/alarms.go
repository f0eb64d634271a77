package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newAlarmsCmd(a *app) *cobra.Command {
	return group("alarms", "Look at the trouble that there is now", newListCmd(a, lister[api.Alarm]{
		use:   "list",
		short: "List alarms, newest first, and what to do",
		ask:   func(ctx context.Context, srv server, _ []string) ([]api.Alarm, error) { return srv.Alarms(ctx) },
		show:  a.alarmListing,
		tell: func(alarms []api.Alarm) string {
			if len(alarms) == 0 {
				return "no alarms"
			}
			return ""
		},
	}))
}

func (a *app) alarmListing(alarms []api.Alarm) listing[api.Alarm] {
	return listing[api.Alarm]{
		items: alarms,
		name:  func(r api.Alarm) string { return r.Code },
		columns: []column[api.Alarm]{
			{"CODE", false, func(r api.Alarm) string { return r.Code }},
			{"SINCE", false, func(r api.Alarm) string { return since(a.now(), r.Since) }},
			{"ON", false, func(r api.Alarm) string { return r.On }},
			{"WHAT", false, func(r api.Alarm) string { return join(r.Title, r.Detail) }},
			{"FIX", true, func(r api.Alarm) string { return dash(r.Fix) }},
		},
	}
}
