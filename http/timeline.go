package http

import (
	"fmt"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/web"
)

// tones are the colours of the phases; what belongs together has one.
func toneOf(p fleet.Phase) string {
	switch p {
	case fleet.PhaseDHCP:
		return "dhcp"
	case fleet.PhaseLoader:
		return "loader"
	case fleet.PhaseScript:
		return "script"
	case fleet.PhaseKernel:
		return "kernel"
	case fleet.PhaseHello, fleet.PhaseDisk, fleet.PhaseWrite, fleet.PhaseSeed:
		return "install"
	case fleet.PhaseReboot, fleet.PhaseFirstBoot:
		return "boot"
	case fleet.PhaseDocker:
		return "docker"
	case fleet.PhaseJoin, fleet.PhaseActive:
		return "join"
	default:
		return "power"
	}
}

func legend() []web.Legend {
	return []web.Legend{
		{Tone: "power", Label: "Power on"},
		{Tone: "dhcp", Label: "DHCP"},
		{Tone: "loader", Label: "Loader"},
		{Tone: "script", Label: "iPXE"},
		{Tone: "kernel", Label: "Kernel"},
		{Tone: "install", Label: "Install"},
		{Tone: "boot", Label: "First boot"},
		{Tone: "docker", Label: "Docker"},
		{Tone: "join", Label: "Join"},
	}
}

func phaseLabel(p fleet.Phase) string {
	switch p {
	case fleet.PhaseDHCP:
		return "DHCP"
	case fleet.PhaseBIOS:
		return "BIOS settings"
	case fleet.PhaseDocker:
		return "Docker"
	case fleet.PhaseScript:
		return "iPXE"
	case fleet.PhasePower:
		return "power on"
	default:
		return strings.ReplaceAll(string(p), "_", " ")
	}
}

// A span is how long a node was in a phase.
type span struct {
	phase    fleet.Phase
	from, to time.Time
}

// spans are the phases of a boot, each from when it was reached to the next.
// The last one goes on, unless the boot is over.
func (sc scene) spans(n fleet.RunNode) []span {
	var out []span
	for i, t := range n.Times {
		to := sc.end(n)
		if i+1 < len(n.Times) {
			to = n.Times[i+1].At
		}
		if to.Before(t.At) {
			to = t.At
		}
		out = append(out, span{phase: t.Phase, from: t.At, to: to})
	}
	return out
}

// slow says when a node is in a phase for much longer than others were: the
// median counts, because what is long differs from hardware to hardware.
func (sc scene) slow(p part) string {
	if p.node.State != fleet.RunRunning || len(p.node.Times) == 0 {
		return ""
	}
	last := p.node.Times[len(p.node.Times)-1]
	usual := sc.usual[p.run.Pool].lasts(last.Phase)
	if usual == 0 || sc.now.Sub(last.At) < 2*usual+patience {
		return ""
	}
	return fmt.Sprintf("%s takes long, usually %s", phaseLabel(last.Phase), web.Duration(usual))
}

// patience is how much later than usual nobody worries.
const patience = 15 * time.Second

// line draws a boot on the time axis of its run.
func (sc scene) line(p part) web.Line {
	scale, n := sc.scale[p.run.ID], p.node
	line := web.Line{Scale: int64(scale.Seconds()), Took: web.Duration(sc.end(n).Sub(n.Started))}
	spans := sc.spans(n)
	var words []string
	for i, s := range spans {
		tone, last := "ph-"+toneOf(s.phase), i == len(spans)-1
		took := web.Duration(s.to.Sub(s.from))
		switch {
		case last && n.State == fleet.RunFailed:
			tone = "ph-late"
		case last && sc.slow(p) != "":
			tone = "ph-slow"
		}
		if last && n.State == fleet.RunDone {
			continue // active: nothing was waited for any more
		}
		x, end := thousandths(s.from.Sub(n.Started), scale), thousandths(s.to.Sub(n.Started), scale)
		label := phaseLabel(s.phase) + " " + took
		line.Bars = append(line.Bars, web.Bar{Tone: tone, X: x, W: max(end-x, 4), Text: label})
		words = append(words, label)
	}
	line.Text = fmt.Sprintf("%s in all: %s", line.Took, strings.Join(words, ", "))
	if n.State == fleet.RunRunning && len(spans) > 0 {
		line.Since, line.Begun = spans[len(spans)-1].from.Unix(), n.Started.Unix()
	}
	return line
}

func thousandths(d, whole time.Duration) int {
	return int(min(1000, max(0, d*1000/whole)))
}
