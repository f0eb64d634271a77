package http

import (
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// A scene is the world at one moment, as far as the console draws it.
type scene struct {
	now   time.Time
	site  fleet.Site
	runs  []fleet.Run                   // newest first
	parts map[fleet.NodeID]part         // each node's newest part of a run
	usual map[fleet.PoolName]times      // medians
	scale map[fleet.RunID]time.Duration // width of the time lines
	quirk func(fleet.Node) fleet.Quirk  // how a node boots otherwise than usual
	check func(fleet.Node) fleet.Checkup
}

// A part is one node's part of a run.
type part struct {
	run  fleet.Run
	node fleet.RunNode
}

func (s *Server) scene() scene {
	sc := scene{
		now: s.o.Now(), site: s.o.Engine.Site(), runs: s.o.Engine.Runs(),
		parts: map[fleet.NodeID]part{}, usual: map[fleet.PoolName]times{}, scale: map[fleet.RunID]time.Duration{},
		quirk: s.quirk,
		check: func(n fleet.Node) fleet.Checkup {
			_, c, _ := s.o.Engine.Checkup(string(n.ID)) // an unknown node has said nothing
			return c
		},
	}
	for _, r := range sc.runs {
		if _, ok := sc.usual[r.Pool]; !ok {
			sc.usual[r.Pool] = medianTimes(sc.runs, r.Pool)
		}
		longest := sc.usual[r.Pool].total
		for _, n := range r.Nodes {
			longest = max(longest, sc.end(n).Sub(n.Started))
			if _, ok := sc.parts[n.Node]; !ok && len(n.Times) > 0 {
				sc.parts[n.Node] = part{run: r, node: n}
			}
		}
		sc.scale[r.ID] = roundScale(longest)
	}
	return sc
}

// end is when a node's part ended, or now.
func (sc scene) end(n fleet.RunNode) time.Time {
	if n.Ended.IsZero() {
		return sc.now
	}
	return n.Ended
}

// roundScale picks the width of time lines: it has to change seldom, or all
// of them would be drawn anew each second.
func roundScale(longest time.Duration) time.Duration {
	for _, step := range []time.Duration{1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 240, 480} {
		if longest <= step*time.Minute {
			return step * time.Minute
		}
	}
	return longest.Round(time.Hour) + time.Hour
}

// stateView says how a state is shown.
func stateView(s fleet.State) web.State {
	icons := map[fleet.State][2]string{
		fleet.Discovered: {"plus", "wait"}, fleet.Ready: {"ring", "idle"}, fleet.Installing: {"down", "busy"},
		fleet.Installed: {"disk", "busy"}, fleet.Joining: {"link", "busy"}, fleet.Active: {"check", "good"},
		fleet.Draining: {"up", "wait"}, fleet.Releasing: {"up", "wait"}, fleet.Failed: {"cross", "bad"},
		fleet.Maintenance: {"pause", "wait"}, fleet.Rescue: {"aid", "wait"}, fleet.Quarantined: {"warn", "bad"},
		fleet.Retired: {"box", "idle"},
	}
	look, ok := icons[s]
	if !ok {
		look = [2]string{"ring", "idle"}
	}
	return web.State{Name: string(s), Icon: look[0], Tone: look[1]}
}

func (v viewer) counts(all []fleet.Node, matches int) web.Counts {
	n := map[fleet.State]int{}
	for _, node := range all {
		n[node.State]++
	}
	out := web.Counts{Matches: matches, Total: len(all)}
	for _, state := range fleet.States() {
		if n[state] == 0 {
			continue
		}
		term := "state:" + string(state)
		c := web.Count{State: stateView(state), N: n[state], Current: v.query == term}
		c.Href = v.with(term)
		if c.Current {
			c.Href = v.with("")
		}
		out.States = append(out.States, c)
	}
	return out
}

func (v viewer) tabs(all []fleet.Node, site fleet.Site) []web.Tab {
	n := map[fleet.PoolName]int{}
	for _, node := range all {
		n[node.Pool]++
	}
	tabs := []web.Tab{{Label: "All", Count: len(all), Href: v.with(""), Current: v.query == ""}}
	for _, p := range site.Pools {
		term := "pool:" + string(p.Name)
		tabs = append(tabs, web.Tab{Label: string(p.Name), Count: n[p.Name], Href: v.with(term), Current: v.query == term})
	}
	return tabs
}

func (v viewer) row(n fleet.Node, sc scene) web.Row {
	row := web.Row{
		ID: string(n.ID), Title: n.Title(), State: stateView(n.State), Pool: string(n.Pool), Role: string(n.Role),
		Href: v.open(string(n.ID)), Progress: -1, Selected: v.node == string(n.ID),
		Order: strconv.Itoa(urgency(n.State)) + nodeKey(n),
		Code:  string(n.Failure.Code), Reason: n.Failure.Text, Hint: n.Failure.Hint,
	}
	if n.Name != "" {
		row.Sub = string(n.MAC)
	} else if n.Addr.IsValid() {
		row.Sub = n.Addr.String()
	}
	busy := urgency(n.State) == 2
	if busy || (n.State == fleet.Failed && n.Phase != "") {
		row.Phase = phaseLabel(n.Phase)
	}
	if busy && n.Progress > 0 {
		row.Progress = n.Progress
	}
	if p, ok := sc.parts[n.ID]; ok && n.State != fleet.Discovered {
		row.Line = sc.line(p)
		row.Attempt = p.node.Attempt
		row.Slow = sc.slow(p)
	}
	if n.State == fleet.Discovered {
		row.Approve = &web.Approve{Ref: row.ID, Back: strings.TrimPrefix(v.href(), "/?"), Denied: v.denied}
		row.Reason = hardware(n.Inventory)
	}
	if n.State == fleet.Rescue {
		row.Reason = fmt.Sprintf("in the rescue system since %s, was %s", stamp(n.Rescue.Since), n.Rescue.From)
	}
	if row.Reason == "" && row.Code == "" && n.State == fleet.Ready {
		row.Reason = hardware(n.Inventory)
	}
	row.Version = version(row)
	return row
}

// version differs between two drawings of a row that look different. What
// grows by the second is left out: the script does that.
func version(row web.Row) string {
	if row.Line.Since != 0 && len(row.Line.Bars) > 0 {
		row.Line.Bars = slices.Clone(row.Line.Bars)
		row.Line.Bars[len(row.Line.Bars)-1] = web.Bar{}
		row.Line.Took, row.Line.Text = "", ""
	}
	approve := web.Approve{}
	if row.Approve != nil {
		approve = *row.Approve
	}
	row.Approve = nil
	h := fnv.New64a()
	fmt.Fprintf(h, "%+v %+v", row, approve)
	return strconv.FormatUint(h.Sum64(), 36)
}

func hardware(inv fleet.Inventory) string {
	var parts []string
	for _, s := range []string{strings.TrimSpace(inv.Vendor + " " + inv.Product), labelled("serial ", inv.Serial), memory(inv.MemoryMiB)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

func labelled(label, s string) string {
	if s == "" {
		return ""
	}
	return label + s
}

func memory(mib int) string {
	switch {
	case mib == 0:
		return ""
	case mib < 4096:
		return fmt.Sprintf("%d MiB RAM", mib)
	default:
		return fmt.Sprintf("%d GiB RAM", (mib+512)/1024)
	}
}

// runViews shows the runs under way, and otherwise the last one.
func (sc scene) runViews() []web.Run {
	var out []web.Run
	for _, r := range sc.runs {
		if !r.State.Over() && len(out) < 4 {
			out = append(out, sc.runView(r))
		}
	}
	if len(out) == 0 && len(sc.runs) > 0 {
		out = append(out, sc.runView(sc.runs[0]))
	}
	return out
}

func (sc scene) runView(r fleet.Run) web.Run {
	done, failed, working := r.Counts()
	total := len(r.Nodes)
	end := r.Ended
	if end.IsZero() {
		end = sc.now
	}
	v := web.Run{
		ID: string(r.ID), Pool: string(r.Pool), State: string(r.State), Live: !r.State.Over(),
		Done: done, Failed: failed, Working: working, Held: total - done - failed - working, Total: total,
		Since: r.Started.Unix(), Elapsed: web.Duration(end.Sub(r.Started)),
	}
	if p, ok := sc.site.Pool(r.Pool); ok {
		profile, _ := sc.site.Profile(p.Profile)
		v.Image = string(profile.Image)
	}
	if eta := sc.usual[r.Pool].remainingRun(r, sc.now); eta > 0 && v.Live {
		v.ETA = web.Duration(eta)
	}
	at := 0
	for _, b := range []struct {
		tone string
		n    int
	}{{"good", done}, {"bad", failed}, {"busy", working}, {"wait", v.Held}} {
		if b.n > 0 {
			v.Bars = append(v.Bars, web.Bar{Tone: b.tone, X: at * 1000 / total, W: b.n * 1000 / total})
			at += b.n
		}
	}
	return v
}

func (v viewer) event(ev fleet.Event, title string) web.Event {
	out := web.Event{Seq: ev.Seq, At: ev.At, Type: string(ev.Type), Node: title, Text: ev.Text, Tone: "idle"}
	switch ev.Type {
	case fleet.EventFailed, fleet.EventUnexpected, fleet.EventAlarm:
		out.Tone = "bad"
	case fleet.EventDiscovered:
		out.Tone = "wait"
	case fleet.EventRun:
		out.Tone = "busy"
	default:
	}
	if title != "" {
		out.Href = v.open(string(ev.Node))
	} else if ev.Node != "" {
		out.Node, out.Href = string(ev.Node), "/?"+url.Values{"node": {string(ev.Node)}}.Encode()
	}
	if ev.Actor != "" && ev.Actor != "engine" && ev.Actor != "node" {
		out.Text += " — " + ev.Actor
	}
	return out
}
