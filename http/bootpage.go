package http

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// endless is longer than anybody leases an address for, but for ever.
const endless = 10 * 365 * 24 * time.Hour

const (
	leasesPerPage = 100
	trafficOf     = 400 // events that are looked through
	trafficLength = 60
)

// alarmBar is what every page says about the trouble that there is; nil for
// none.
func (s *Server) alarmBar() *web.AlarmBar {
	alarms := s.o.Engine.Alarms()
	if len(alarms) == 0 {
		return nil
	}
	newest := alarms[0]
	bar := &web.AlarmBar{
		Title: "1 alarm", Code: newest.Code, More: "What to do",
		Text: fleet.Diagnose(newest.Code).Title + ": " + newest.On,
	}
	if n := len(alarms); n > 1 {
		bar.Title, bar.More = fmt.Sprintf("%d alarms", n), "All of them"
	}
	return bar
}

// alarmViews are the alarms by kind, the kind with the newest first.
func (s *Server) alarmViews() (views []web.Alarm) {
	on := map[string][]string{}
	for _, a := range s.o.Engine.Alarms() {
		i := slices.IndexFunc(views, func(v web.Alarm) bool { return v.Code == a.Code })
		if i < 0 {
			i = len(views)
			views = append(views, web.Alarm{Code: a.Code, Title: fleet.Diagnose(a.Code).Title})
		}
		views[i].On = append(views[i].On, web.AlarmOn{On: a.On, Detail: a.Detail, Since: web.Duration(s.o.Now().Sub(a.Since))})
		on[a.Code] = append(on[a.Code], a.On)
		views[i].Fix = fleet.Diagnose(a.Code).FixFor(strings.Join(on[a.Code], ", "))
	}
	return views
}

// bootPage shows the network that machines boot from.
func (s *Server) bootPage(c echo.Context) error {
	view := web.Boot{Shell: s.shell(c, "Network")}
	view.Alarms = s.alarmViews()
	list := s.subnets()
	for _, n := range list.Subnets {
		view.Subnets = append(view.Subnets, subnetView(n))
	}
	view.Strays = foreignViews(list.Foreign)
	for _, r := range s.relays() {
		view.Relays = append(view.Relays, relayView(s.o.Now(), r))
	}
	after, _ := netip.ParseAddr(c.QueryParam("after")) // nonsense is the first page
	leases := s.o.Network.List("", after, leasesPerPage+1)
	if len(leases) > leasesPerPage {
		leases = leases[:leasesPerPage]
		view.Next = "/boot?after=" + url.QueryEscape(leases[leasesPerPage-1].Addr.String())
	}
	for _, l := range leases {
		view.Leases = append(view.Leases, s.leaseView(l))
	}
	var err error
	if view.Traffic, err = s.traffic(c); err != nil {
		return err
	}
	return s.page(c, http.StatusOK, "boot", view)
}

// meanings says in words what a mode does.
var meanings = map[string]string{
	string(fleet.Observe):  "listens, answers nobody",
	string(fleet.Proxy):    "boot information beside another server",
	string(fleet.Reserved): "addresses for known machines",
	string(fleet.Full):     "addresses for everybody",
}

func subnetView(n api.Subnet) web.Subnet {
	out := web.Subnet{Name: n.Name, CIDR: n.CIDR, Mode: n.Mode, Meaning: meanings[n.Mode], By: n.Interface, Foreign: foreignViews(n.Foreign)}
	if out.By == "" {
		out.By = "relays"
	}
	for _, r := range n.Ranges {
		out.Ranges = append(out.Ranges, useView(r))
	}
	return out
}

// useView draws how full a range is: in use, and in quarantine.
func useView(r api.RangeUse) web.Use {
	size := max(1, r.Size)
	used, declined := min(1000, r.Used*1000/size), min(1000, r.Declined*1000/size)
	tone := "good"
	switch {
	case r.Percent >= 100:
		tone = "bad"
	case r.Percent >= 80:
		tone = "wait"
	}
	u := web.Use{
		Class: r.Class, Text: fmt.Sprintf("%d of %d free, %d %% used", max(0, r.Size-r.Used-r.Declined), r.Size, r.Percent),
		Bars: []web.Bar{{Tone: tone, W: used, Text: fmt.Sprintf("%d in use", r.Used)}, {Tone: "bad", X: used, W: declined, Text: fmt.Sprintf("%d in quarantine", r.Declined)}},
	}
	if r.FullIn > 0 {
		u.Text += ", full in " + web.Duration(time.Duration(r.FullIn)*time.Second)
	}
	return u
}

func foreignViews(list []api.ForeignServer) (out []web.Foreign) {
	for _, f := range list {
		words := f.Words
		switch {
		case f.Against != "":
			words = f.Against + ": " + words
		case f.Expected:
			words += "; belongs there"
		}
		out = append(out, web.Foreign{Addr: f.Addr, Words: words, Expected: f.Expected})
	}
	return out
}

func (s *Server) leaseView(l fleet.Lease) web.Lease {
	out := web.Lease{
		Addr: l.Addr.String(), MAC: string(l.MAC), Hostname: l.Hostname, Subnet: l.Subnet, State: string(l.State),
		Ends: web.Duration(l.Expires.Sub(s.o.Now())),
	}
	if l.Expires.Sub(s.o.Now()) > endless {
		out.Ends = "never"
	}
	if n, ok := s.o.Engine.NodeByMAC(l.MAC); ok {
		out.Node, out.Href = n.Title(), "/?"+url.Values{"node": {string(n.ID)}}.Encode()
	}
	return out
}

// traffic is who asked for what and got what lately, newest first.
func (s *Server) traffic(c echo.Context) ([]web.Event, error) {
	events, err := s.o.Engine.Events(c.Request().Context(), max(0, s.o.Engine.LastEvent()-trafficOf), trafficOf)
	if err != nil {
		return nil, err
	}
	v, titles := s.viewer(c), titlesOf(s.o.Engine.Nodes())
	var out []web.Event
	for _, ev := range slices.Backward(events) {
		switch ev.Type {
		case fleet.EventEvidence, fleet.EventDiscovered, fleet.EventUnexpected:
			out = append(out, v.event(ev, titles[ev.Node]))
		default:
		}
		if len(out) == trafficLength {
			break
		}
	}
	return out, nil
}
