package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

func newSubnetsCmd(a *app) *cobra.Command {
	return group("subnets", "Look at networks: how full they are, and who else answers there", newSubnetsListCmd(a))
}

func newSubnetsListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Subnet]{
		use:   "list",
		short: "List subnets: mode, use, forecast, other DHCP servers, alarms",
		ask: func(ctx context.Context, srv server, _ []string) ([]api.Subnet, error) {
			list, err := srv.Subnets(ctx)
			return list.Subnets, err
		},
		show: subnetListing,
	})
}

func subnetListing(subnets []api.Subnet) listing[api.Subnet] {
	return listing[api.Subnet]{
		items: subnets,
		name:  func(n api.Subnet) string { return n.Name },
		columns: []column[api.Subnet]{
			{"SUBNET", false, func(n api.Subnet) string { return n.Name }},
			{"NETWORK", false, func(n api.Subnet) string { return n.CIDR }},
			{"MODE", false, func(n api.Subnet) string { return n.Mode }},
			{"BY", false, func(n api.Subnet) string { return orWord(n.Interface, "relay") }},
			{"USED", false, func(n api.Subnet) string { return perRange(n, rangeUsed) }},
			{"FREE", false, func(n api.Subnet) string { return perRange(n, rangeFree) }},
			{"FULL IN", false, func(n api.Subnet) string { return perRange(n, rangeFull) }},
			{"OTHER DHCP", false, foreignWord},
			{"ALARMS", false, func(n api.Subnet) string { return fmt.Sprint(n.Alarms) }},
			{"WHAT THEY DO", true, func(n api.Subnet) string {
				var words []string
				for _, f := range n.Foreign {
					words = append(words, join(f.Against, f.Words))
				}
				return dash(strings.Join(words, "; "))
			}},
		},
	}
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// perRange says something of each range of a subnet; those of classes by name.
func perRange(n api.Subnet, say func(api.RangeUse) string) string {
	var parts []string
	for _, r := range n.Ranges {
		word := say(r)
		if r.Class != "" {
			word = r.Class + " " + word
		}
		parts = append(parts, word)
	}
	return dash(strings.Join(parts, ", "))
}

func rangeUsed(r api.RangeUse) string { return fmt.Sprintf("%d %%", r.Percent) }

func rangeFree(r api.RangeUse) string {
	return fmt.Sprintf("%d of %d", max(0, r.Size-r.Used-r.Declined), r.Size)
}

func rangeFull(r api.RangeUse) string {
	if r.FullIn == 0 {
		return dash("")
	}
	return took(time.Duration(r.FullIn) * time.Second)
}

// foreignWord names the other servers; one that does not belong has a mark.
func foreignWord(n api.Subnet) string {
	var parts []string
	for _, f := range n.Foreign {
		word := f.Addr
		switch {
		case f.Router:
			word += " (router)"
		case f.Proxy && !f.Full:
			word += " (proxy)"
		case !f.Full:
			word += " (no addresses)"
		}
		if !f.Expected {
			word = "✗ " + word
		}
		parts = append(parts, word)
	}
	return dash(strings.Join(parts, ", "))
}
