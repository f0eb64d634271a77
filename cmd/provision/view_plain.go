package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// heartbeat is how often plain progress says that it is alive: CI systems end
// jobs that say nothing.
const heartbeat = 30 * time.Second

// A plainView prints one line for each change.
type plainView struct {
	w       io.Writer
	plan    api.Plan
	tracker tracker
	beat    time.Time
}

func (v *plainView) wantsPlan() bool { return false }

func (v *plainView) start(run api.Run, now time.Time) {
	v.tracker, v.beat = newTracker(), now
	fields := []any{"pool", run.Pool}
	if run.ID != "" {
		fields = append([]any{"run", run.ID}, fields...)
	}
	var counts []any
	for _, class := range planClasses {
		if n := len(ofClass(v.plan, class)); n > 0 && !class.Destructive() {
			counts = append(counts, class, n)
		}
	}
	if _, held := planChanges(v.plan); held > 0 {
		counts = append(counts, "held", held)
	}
	v.line(now, strings.TrimSpace(logfmt(fields...)+" plan "+logfmt(counts...)))
	for _, it := range v.plan.Items {
		if class := fleet.Class(it.Class); class.Destructive() || class == fleet.Skip {
			v.line(now, logfmt("node", it.Title, "class", it.Class, "reason", it.Reason))
		}
	}
}

func (v *plainView) update(run api.Run, now time.Time) {
	for _, s := range v.tracker.steps(run, now) {
		v.line(s.At, tellStep(s))
	}
	if now.Sub(v.beat) < heartbeat || isOver(run) {
		return
	}
	v.beat = now
	line := "progress " + logfmt("active", run.Done, "working", run.Working, "failed", run.Failed, "total", total(run))
	if left := eta(run, estimateOf(v.plan), now); left > 0 {
		line += " " + logfmt("eta", took(left))
	}
	v.line(now, line)
}

func (v *plainView) note(text string, now time.Time) {
	if text != "" {
		v.line(now, logfmt("note", text))
	}
}

func (v *plainView) finish(run api.Run, now time.Time, code int) {
	v.line(now, "done "+logfmt("active", run.Done, "failed", run.Failed, "held", run.Held,
		"took", took(orNow(run.Ended, now).Sub(run.Started)), "exit", code))
}

func (v *plainView) line(at time.Time, text string) {
	fmt.Fprintf(v.w, "%s %s\n", at.UTC().Format(time.RFC3339), text)
}

func tellStep(s step) string {
	line := logfmt("node", s.Node, "phase", s.Phase)
	switch {
	case s.Attempt > 1:
		line += " " + logfmt("attempt", s.Attempt)
	case s.Failure != nil:
		line += " FAILED"
	}
	if s.Failure != nil {
		line += " " + logfmt("code", s.Failure.Code, "text", s.Failure.Text)
	}
	if s.Took > 0 {
		line += " " + logfmt("took", took(s.Took))
	}
	return line
}

// logfmt writes key=value pairs.
func logfmt(pairs ...any) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		value := strings.ReplaceAll(printable(fmt.Sprint(pairs[i+1])), "\n", " ")
		if value == "" || strings.ContainsAny(value, " \"=") {
			value = strconv.Quote(value)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%v=%s", pairs[i], value)
	}
	return b.String()
}

// A jsonView prints one JSON object for each change.
type jsonView struct {
	w       io.Writer
	plan    api.Plan
	tracker tracker
	beat    time.Time
}

type jsonLine struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"` // plan, step, progress, note, done
	Plan  *api.Plan `json:"plan,omitempty"`
	Run   *api.Run  `json:"run,omitempty"`
	Step  *step     `json:"step,omitempty"`
	Text  string    `json:"text,omitempty"`
	Exit  *int      `json:"exit,omitempty"`
}

func (v *jsonView) wantsPlan() bool { return false }

func (v *jsonView) start(run api.Run, now time.Time) {
	v.tracker, v.beat = newTracker(), now
	line := jsonLine{At: now, Event: "plan", Plan: &v.plan}
	if run.ID != "" {
		line.Run = &run
	}
	v.line(line)
}

func (v *jsonView) update(run api.Run, now time.Time) {
	for _, s := range v.tracker.steps(run, now) {
		v.line(jsonLine{At: s.At, Event: "step", Step: &s})
	}
	if now.Sub(v.beat) >= heartbeat && !isOver(run) {
		v.beat = now
		v.line(jsonLine{At: now, Event: "progress", Run: &run})
	}
}

func (v *jsonView) note(text string, now time.Time) {
	if text != "" {
		v.line(jsonLine{At: now, Event: "note", Text: text})
	}
}

func (v *jsonView) finish(run api.Run, now time.Time, code int) {
	v.line(jsonLine{At: now, Event: "done", Run: &run, Exit: &code})
}

func (v *jsonView) line(l jsonLine) {
	l.At = l.At.UTC()
	_ = json.NewEncoder(v.w).Encode(l) // whoever closed our stderr does not want to know
}
