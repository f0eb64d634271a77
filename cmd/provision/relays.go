package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newRelaysCmd(a *app) *cobra.Command {
	return group("relays", "Edges that speak for machines of other networks", newRelaysListCmd(a), newRelaysAddCmd(a), newRelaysRemoveCmd(a))
}

func newRelaysListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Relay]{
		use:   "list",
		short: "List relays, when they were heard, and what they spared the server",
		ask:   func(ctx context.Context, srv server, _ []string) ([]api.Relay, error) { return srv.Relays(ctx) },
		show:  a.relayListing,
	})
}

func (a *app) relayListing(relays []api.Relay) listing[api.Relay] {
	return listing[api.Relay]{
		items: relays,
		name:  func(r api.Relay) string { return r.Name },
		columns: []column[api.Relay]{
			{"RELAY", false, func(r api.Relay) string { return r.Name }},
			{"SUBNETS", false, func(r api.Relay) string { return strings.Join(r.Subnets, ",") }},
			{"ADDRESS", false, func(r api.Relay) string { return dash(relayAddrs(r)) }},
			{"SEEN", false, func(r api.Relay) string { return relaySeen(a.now(), r) }},
			{"VERSION", false, func(r api.Relay) string { return dash(r.Version) }},
			{"CACHE", false, func(r api.Relay) string { return relayCache(r.Usage) }},
			{"SERVED", false, func(r api.Relay) string { return bytesOf(r.Usage.Served) }},
			{"FETCHED", false, func(r api.Relay) string { return bytesOf(r.Usage.Fetched) }},
			{"DHCP", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.Requests) }},
			{"REFUSED", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.Refused) }},
			{"TFTP-REFUSED", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.TFTP.AllRefused()) }},
			{"HTTP-REFUSED", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.HTTP.AllRefused()) }},
			{"ALONE", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.Away) }},
			{"BOOTP", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.BOOTP) }},
			{"STRANGERS", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.Strangers) }},
			{"UNSENT", true, func(r api.Relay) string { return fmt.Sprint(r.Usage.Unsent) }},
			{"TROUBLE", false, func(r api.Relay) string { return dash(relayTrouble(r)) }},
			{"FROM", true, func(r api.Relay) string { return dash(r.From) }},
		},
	}
}

// relayTrouble names what is wrong with a relay: `provision doctor` and the alarms
// say more.
func relayTrouble(r api.Relay) string {
	var codes []string
	for _, t := range r.Trouble {
		if !slices.Contains(codes, t.Code) {
			codes = append(codes, t.Code)
		}
	}
	return strings.Join(codes, ",")
}

func relayAddrs(r api.Relay) string {
	var out []string
	for _, p := range r.Places {
		out = append(out, p.Addr.String())
	}
	return strings.Join(out, ",")
}

func relaySeen(now time.Time, r api.Relay) string {
	switch {
	case r.Enrolled == nil:
		return "not enrolled"
	case r.Seen == nil:
		return "not since the start"
	case r.Silent:
		return "silent for " + since(now, *r.Seen)
	default:
		return since(now, *r.Seen)
	}
}

func relayCache(u api.RelayUsage) string {
	if u.CacheLimit == 0 {
		return dash("")
	}
	return bytesOf(u.CacheBytes) + " of " + bytesOf(u.CacheLimit)
}

func newRelaysAddCmd(a *app) *cobra.Command {
	var subnets []string
	cmd := &cobra.Command{
		Use: "add NAME --subnet SUBNET[,SUBNET…]", Short: "Add a relay, and print the token that it enrols with, once",
		Example: "  provision relays add west --subnet west-boot > token",
		Args:    cobra.ExactArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			if len(subnets) == 0 {
				return usagef("name the subnets whose machines it speaks for: --subnet west-boot")
			}
			return nil
		},
		RunE: a.doing(func(ctx context.Context, srv server, args []string) error {
			added, err := srv.AddRelay(ctx, api.AddRelay{Name: args[0], Subnets: subnets})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, added.Token)
			fmt.Fprintf(a.stderr, "good once, until %s. On the relay, with that line in a file:\n  sudo provision relay --server https://SERVER:8443 --token-file FILE --iface IFACE\n",
				added.Expires.Local().Format(time.DateTime))
			return nil
		}),
	}
	cmd.Flags().StringSliceVar(&subnets, "subnet", nil, "`subnets` whose machines it speaks for")
	return cmd
}

func newRelaysRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Take a relay's rights away, at once", Args: cobra.ExactArgs(1),
		RunE: a.doing(func(ctx context.Context, srv server, args []string) error {
			if err := srv.RemoveRelay(ctx, args[0]); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, printable("removed relay "+args[0]))
			return nil
		}),
	}
}
