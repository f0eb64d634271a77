package http

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// panel is all about one node.
func (v viewer) panel(n fleet.Node, sc scene) web.Panel {
	v.node = string(n.ID)
	p := web.Panel{Row: v.row(n, sc), Facts: facts(n), Close: v.open(""), Failed: urgency(n.State) == 0}
	if q := sc.quirk(n); q.Reason != "" {
		p.Facts = append(p.Facts, web.Fact{Name: "Loader", Value: joined(": ", q.Loader, q.Reason)})
	}
	p.Health = health(sc.check(n))
	p.Rescue = v.rescue(n)
	if v.denied == "" { // what a machine wrote may be secret
		p.LastWords, p.Console = n.Failure.Console, "/nodes/"+url.PathEscape(string(n.ID))+"/console"
	}
	for _, d := range n.Inventory.Disks {
		what := strings.TrimSpace(web.Bytes(d.Bytes) + " " + d.Model)
		if d.Serial != "" {
			what += ", serial " + d.Serial
		}
		if d.Holds != "" {
			what += ", holds " + d.Holds
		}
		p.Disks = append(p.Disks, web.Fact{Name: d.Name, Value: what})
	}
	if part, ok := sc.parts[n.ID]; ok {
		p.Times = sc.times(part)
		for _, note := range part.node.Notes {
			p.Facts = append(p.Facts, web.Fact{Name: "Not done", Value: note})
		}
	}
	if p.Slow != "" {
		p.Reason = p.Slow
	} else if p.Reason == "" && p.Phase != "" {
		p.Reason = "under way: " + p.Phase
		if p.Progress > 0 {
			p.Reason += fmt.Sprintf(", %d %%", p.Progress)
		}
	}
	if n.State == fleet.Rescue {
		p.CLI = "provision nodes rescue " + n.Title() + " --end"
	}
	if n.State.HasSystem() && fleet.CanFollow(n.State, fleet.Rescue) {
		p.CLI = "provision nodes rescue " + n.Title()
	}
	if n.State == fleet.Discovered {
		p.CLI = "provision enrol approve " + n.Title()
	}
	if (n.State == fleet.Ready || n.State == fleet.Failed) && n.Pool != "" {
		p.CLI = "provision --pool " + string(n.Pool)
	}
	return p
}

// rescue is the button that begins or ends the rescue of a node. A member at
// work is not restarted by one press of a button: the command asks.
func (v viewer) rescue(n fleet.Node) *web.Rescue {
	end := n.State == fleet.Rescue
	if !end && (n.State.HasSystem() || n.Run != "" || !fleet.CanFollow(n.State, fleet.Rescue)) {
		return nil
	}
	return &web.Rescue{Approve: web.Approve{Ref: string(n.ID), Back: strings.TrimPrefix(v.href(), "/?"), Denied: v.denied}, End: end}
}

func facts(n fleet.Node) []web.Fact {
	inv := n.Inventory
	all := []web.Fact{
		{Name: "Pool, role", Value: joined(", ", string(n.Pool), string(n.Role))},
		{Name: "Stage", Value: string(n.Stage)},
		{Name: "MAC", Value: string(n.MAC), Code: true},
		{Name: "IP", Value: addrText(n.Addr), Code: true},
		{Name: "BMC", Value: bmcFact(n.BMC), Code: true},
		{Name: "BMC certificate", Value: n.BMC.Pin, Code: true},
		{Name: "BMC certificate shown now", Value: n.BMC.NewPin, Code: true},
		{Name: "Model", Value: joined(" ", inv.Vendor, inv.Product)},
		{Name: "Serial", Value: inv.Serial, Code: true},
		{Name: "Processor", Value: processor(inv.CPU)},
		{Name: "Memory", Value: memory(inv.MemoryMiB)},
		{Name: "Firmware", Value: joined(" ", strings.ToUpper(inv.Firmware), inv.BIOS)},
		{Name: "Switch", Value: neighbour(inv.NICs)},
		{Name: "Image", Value: string(n.System.Image)},
		{Name: "Trust", Value: fmt.Sprintf("T%d", n.Trust)},
		{Name: "ID", Value: string(n.ID), Code: true},
		{Name: "First seen", Value: stamp(n.FirstSeen)},
		{Name: "Last seen", Value: stamp(n.LastSeen)},
	}
	known := all[:0]
	for _, f := range all {
		if f.Value != "" {
			known = append(known, f)
		}
	}
	return known
}

// health is what the node's BMC says about its machine.
func health(c fleet.Checkup) []web.Fact {
	if c.Tried.IsZero() && c.At.IsZero() {
		return nil
	}
	var all []web.Fact
	add := func(name, value string) {
		if value != "" {
			all = append(all, web.Fact{Name: name, Value: value})
		}
	}
	if !c.At.IsZero() {
		add("Health", joined(", ", string(c.Health), "read "+stamp(c.At)))
	}
	if c.Failed > 0 {
		add("No answer", fmt.Sprintf("%d times: %s", c.Failed, c.Error))
	}
	for _, f := range c.Faults {
		add(f.Part, joined(": ", string(f.Health), f.Detail))
	}
	draw := ""
	if c.Watts > 0 {
		draw = fmt.Sprintf("%.0f W", c.Watts)
	}
	add("Power", joined(", ", string(c.Power), draw))
	for _, s := range c.Sensors {
		if s.Kind == "temperature" || s.Kind == "fan" {
			add(s.Name, fmt.Sprintf("%.4g %s", s.Value, s.Unit))
		}
	}
	for _, f := range c.Hardware.Firmware {
		add("Firmware "+f.ID, f.Version)
	}
	for _, e := range c.Log.Entries[:min(len(c.Log.Entries), 5)] {
		add("Log "+stamp(e.At), joined(": ", string(e.Health), e.Text))
	}
	return all
}

func bmcFact(b fleet.BMC) string {
	suite := ""
	if b.Via() == fleet.DriverIPMI && b.CipherSuite > 0 {
		suite = fmt.Sprintf("cipher suite %d", b.CipherSuite)
	}
	return joined(", ", b.Address, string(b.Via()), suite)
}

func joined(sep string, words ...string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, sep)
}

func processor(c fleet.CPU) string {
	if c.Threads == 0 {
		return c.Model
	}
	return joined(", ", c.Model, fmt.Sprintf("%d threads", c.Threads))
}

func neighbour(nics []fleet.NIC) string {
	for _, nic := range nics {
		if s := joined(" ", nic.LLDP.System, nic.LLDP.Port); s != "" {
			return s
		}
	}
	return ""
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// times are how long each phase of a boot took, beside how long it usually
// takes.
func (sc scene) times(p part) []web.Time {
	usual := sc.usual[p.run.Pool]
	var out []web.Time
	for _, s := range sc.spans(p.node) {
		if s.phase == fleet.PhaseActive {
			continue
		}
		t := web.Time{Phase: phaseLabel(s.phase), Tone: toneOf(s.phase), Took: web.Duration(s.to.Sub(s.from))}
		if d := usual.lasts(s.phase); d > 0 {
			t.Usual = web.Duration(d)
		}
		if p.node.State == fleet.RunRunning && s.to.Equal(sc.now) {
			t.Since = s.from.Unix()
		}
		out = append(out, t)
	}
	return out
}
