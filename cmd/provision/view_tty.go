package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A ttyView redraws a few lines in place.
type ttyView struct {
	w        io.Writer
	width    func() int
	color    bool
	console  string // address of the console; "" when not known
	estimate time.Duration

	drawn int // lines of the last frame, which the next one overwrites
	notes []string
}

func (v *ttyView) wantsPlan() bool { return true }

func (v *ttyView) start(run api.Run, _ time.Time) {
	if run.ID == "" {
		return
	}
	line := "Run " + run.ID
	if v.console != "" {
		line += "  " + v.console + "/runs/" + run.ID
	}
	fmt.Fprintf(v.w, "%s   (Ctrl-C detaches)\n\n", printable(line))
}

func (v *ttyView) update(run api.Run, now time.Time) {
	width := v.width()
	lines := frame(run, v.estimate, now, width)
	for _, n := range v.notes {
		lines = append(lines, cut(" "+n, width))
	}
	v.draw(lines)
}

func (v *ttyView) note(text string, _ time.Time) {
	v.notes = nil
	if text != "" {
		v.notes = []string{printable(text)}
	}
}

func (v *ttyView) finish(run api.Run, now time.Time, _ int) {
	v.notes = nil
	v.update(run, now)
	fmt.Fprintln(v.w)
}

// draw overwrites the last frame. Each frame is one write: it does not flicker.
func (v *ttyView) draw(lines []string) {
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "\r%s\x1b[K\n", v.paint(l))
	}
	b.WriteString("\x1b[J")
	v.drawn = len(lines)
	_, _ = io.WriteString(v.w, b.String()) // a terminal that went away is no reason to stop waiting
}

func (v *ttyView) paint(line string) string {
	if !v.color {
		return line
	}
	line = strings.Replace(line, " ✗ ", " \x1b[31m✗\x1b[0m ", 1)
	return strings.Replace(line, " ● ", " \x1b[36m●\x1b[0m ", 1)
}

const (
	barWidth  = 36
	shownFail = 6 // failed nodes in a frame
	shownWork = 8 // nodes under way in a frame
)

// frame draws a run as it is now.
func frame(run api.Run, estimate time.Duration, now time.Time, width int) []string {
	head := fmt.Sprintf(" active %d %s failed %d  under way %d  of %d   %s",
		run.Done, bar(share(run), min(barWidth, max(8, width-60))), run.Failed, run.Working, total(run), took(orNow(run.Ended, now).Sub(run.Started)))
	if left := eta(run, estimate, now); left > 0 {
		head += "  ETA " + took(left)
	}
	lines := []string{cut(head, width)}
	var failed, working []api.RunNode
	for _, n := range run.Nodes {
		switch {
		case isFailed(n):
			failed = append(failed, n)
		case n.State == string(fleet.RunRunning):
			working = append(working, n)
		}
	}
	names := 0
	for _, n := range append(append([]api.RunNode{}, failed...), working...) {
		names = max(names, len([]rune(nodeName(n))))
	}
	for _, n := range failed[:min(len(failed), shownFail)] {
		lines = append(lines, cut(failedLine(n, names, now), width))
	}
	for _, n := range working[:min(len(working), shownWork)] {
		lines = append(lines, cut(workingLine(n, names, now), width))
	}
	if more := max(0, len(failed)-shownFail) + max(0, len(working)-shownWork); more > 0 {
		lines = append(lines, fmt.Sprintf(" … %d more", more))
	}
	return lines
}

func failedLine(n api.RunNode, names int, now time.Time) string {
	f := failureOf(n)
	text := f.Text
	if f.Code != "" {
		text = f.Code + "  " + text
	}
	return printable(fmt.Sprintf(" ✗ %s  %-10s %6s  %s", pad(nodeName(n), names), n.Phase, took(nodeTook(n, now)), text))
}

func workingLine(n api.RunNode, names int, now time.Time) string {
	percent := "    "
	if n.Progress > 0 {
		percent = fmt.Sprintf("%2d %%", n.Progress)
	}
	line := fmt.Sprintf(" ● %s  %-10s %s %6s", pad(nodeName(n), names), n.Phase, percent, took(now.Sub(orNow(phaseSince(n), now))))
	if n.Attempt > 1 {
		line += fmt.Sprintf("   attempt %d", n.Attempt)
		if n.Failure != nil {
			line += ": " + n.Failure.Text
		}
	}
	return printable(line)
}

// bar draws a share in eighths of a cell.
func bar(share float64, width int) string {
	const eighths = " ▏▎▍▌▋▊▉"
	filled := int(share*float64(width)*8 + 0.5)
	full, rest := filled/8, filled%8
	full = min(full, width)
	b := strings.Repeat("█", full)
	if rest > 0 && full < width {
		b += string([]rune(eighths)[rest])
		full++
	}
	return b + strings.Repeat("·", width-full)
}

// cut keeps a line from wrapping, which would spoil the redrawing.
func cut(s string, width int) string {
	r := []rune(s)
	if len(r) < width || width < 2 {
		return s
	}
	return string(r[:width-2]) + "…"
}
