package http

import (
	"fmt"
	"strings"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/web"
)

// relayView is a relay as the page about the network shows it.
func relayView(now time.Time, r api.Relay) web.Relay {
	u := r.Usage
	out := web.Relay{
		Name: r.Name, Subnets: strings.Join(r.Subnets, ", "), Tone: "good", Icon: "check",
		Cache:  web.Bytes(u.CacheBytes) + " kept",
		Spared: web.Bytes(u.Served) + " served, " + web.Bytes(u.Fetched) + " fetched",
		Asked:  fmt.Sprintf("%d asked, %d passed on", u.Requests, u.Relayed),
	}
	for _, p := range r.Places {
		out.Addrs = strings.TrimSpace(out.Addrs + " " + p.Addr.String())
	}
	switch {
	case r.Enrolled == nil:
		out.Tone, out.Icon, out.Seen, out.Why = "idle", "ring", "not enrolled", "start it there with its token"
	case r.Seen == nil:
		out.Tone, out.Icon, out.Seen = "wait", "pause", "not since the start"
	default:
		out.Seen = web.Duration(now.Sub(*r.Seen)) + " ago"
	}
	if len(r.Trouble) > 0 {
		out.Tone, out.Icon, out.Why = "wait", "warn", "see the alarms"
	}
	if r.Silent {
		out.Tone, out.Icon, out.Why = "bad", "warn", "see the alarms"
	}
	var odd []string
	for _, c := range []struct {
		n    int64
		what string
	}{
		{u.BOOTP, "by BOOTP"},
		{u.Away, "answered alone"},
		{u.Refused, "refused"},
		{u.TFTP.AllRefused(), "refused by TFTP"},
		{u.HTTP.AllRefused(), "refused by HTTP"},
		{u.Strangers, "not the server's"},
		{u.Unsent, "not sent"},
		{u.Panics + u.TFTP.Panics + u.HTTP.Panics, "made it fail"},
	} {
		if c.n > 0 {
			odd = append(odd, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	out.Odd = strings.Join(odd, ", ")
	return out
}
