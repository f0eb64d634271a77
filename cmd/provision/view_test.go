package main

import (
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/golden"
)

var nineOClock = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return nineOClock.Add(d) }

// rackRun is a run of five nodes in the middle of it.
func rackRun() api.Run {
	return api.Run{
		ID: "prd-7", Pool: "prd", State: "running", Started: nineOClock, Done: 1, Failed: 1, Working: 3,
		Nodes: []api.RunNode{
			{Node: "n-1", Name: "prd-1", Class: "add", State: "done", Phase: "active", Started: nineOClock, Ended: at(100 * time.Second), Times: []api.PhaseTime{
				{Phase: "power", At: at(2 * time.Second)}, {Phase: "active", At: at(100 * time.Second)},
			}},
			{Node: "n-2", Name: "prd-2", Class: "add", State: "failed", Phase: "dhcp", Started: nineOClock, Ended: at(time.Minute), Failure: &api.Failure{Code: "E-DHCP-ROGUE", Text: "two DHCP servers answer (10.20.0.254)"}},
			{Node: "n-3", Name: "prd-3", Class: "add", State: "running", Phase: "write", Progress: 71, Started: nineOClock, Times: []api.PhaseTime{{Phase: "disk", At: at(30 * time.Second)}}},
			{Node: "n-4", Name: "prd-4", Class: "add", State: "running", Phase: "docker", Attempt: 2, Started: nineOClock, Failure: &api.Failure{Code: "E-DOCKER", Text: "no answer\x1b[2J"}, Times: []api.PhaseTime{{Phase: "first_boot", At: at(2 * time.Minute)}}},
			{Node: "n-5", Name: "prd-5", Class: "add", State: "pending", Phase: "power"},
			{Node: "n-6", Name: "prd-6", Class: "replace!", State: "held"},
		},
	}
}

func TestFrameShowsWhatFailedFirstAndWhatIsUnderWay(t *testing.T) {
	golden.Check(t, "testdata/frame.golden", strings.Join(frame(rackRun(), 5*time.Minute, at(152*time.Second), 100), "\n")+"\n")
}

func TestFrameOfAFullRackStaysSmall(t *testing.T) {
	run := rackRun()
	for range 40 {
		run.Nodes = append(run.Nodes, run.Nodes[1], run.Nodes[2])
	}
	lines := frame(run, 0, at(time.Minute), 80)
	if got, want := len(lines), 1+shownFail+shownWork+1; got != want {
		t.Errorf("a frame has %d lines, want %d", got, want)
	}
	if got, want := lines[len(lines)-1], " … 69 more"; got != want {
		t.Errorf("last line %q, want %q", got, want)
	}
}

func TestNoLineOfAFrameWraps(t *testing.T) {
	for width := 20; width < 120; width++ {
		for _, l := range frame(rackRun(), time.Minute, at(time.Minute), width) {
			if n := len([]rune(l)); n >= width && width > 2 {
				t.Fatalf("at width %d a line has %d characters: %q", width, n, l)
			}
		}
	}
}

func TestTerminalProgressOverwritesItsLastFrame(t *testing.T) {
	var out strings.Builder
	v := &ttyView{w: &out, width: func() int { return 100 }, color: true}
	v.update(rackRun(), at(time.Minute))
	first := strings.Count(out.String(), "\n")
	out.Reset()
	v.note("the server does not answer; waiting for it", at(time.Minute))
	v.update(rackRun(), at(2*time.Minute))
	if want := "\x1b[4A\r"; first != 4 || !strings.HasPrefix(out.String(), want) {
		t.Errorf("first frame has %d lines; the second begins %q, want %q", first, out.String()[:8], want)
	}
	if !strings.Contains(out.String(), "waiting for it") || !strings.Contains(out.String(), "\x1b[31m✗\x1b[0m") {
		t.Errorf("no note or no colour in %q", out.String())
	}
	if strings.Contains(out.String(), "\x1b[2J") {
		t.Error("a node's text reached the terminal unescaped")
	}
}

func TestPlainProgressTellsEachChangeOnce(t *testing.T) {
	var out strings.Builder
	v := &plainView{w: &out, plan: api.Plan{Pool: "prd", Estimate: 300, Items: []api.PlanItem{
		{Title: "prd-0", Class: "keep"},
		{Title: "prd-1", Class: "add"},
		{Title: "prd-2", Class: "add"},
		{Title: "prd-6", Class: "replace!", Reason: "has debian-11"},
	}}}
	v.start(rackRun(), nineOClock)
	v.update(rackRun(), at(110*time.Second))
	v.update(rackRun(), at(111*time.Second))
	v.note("the server does not answer; waiting for it", at(112*time.Second))
	v.note("", at(113*time.Second))
	v.update(rackRun(), at(141*time.Second))
	v.finish(rackRun(), at(150*time.Second), 1)
	golden.Check(t, "testdata/plain.golden", out.String())
}

func TestBarIsFullOnlyAtTheEnd(t *testing.T) {
	tests := map[string]struct {
		share float64
		want  string
	}{
		"nothing":      {0, "········"},
		"an eighth":    {0.125, "█·······"},
		"a bit more":   {0.14, "█▏······"},
		"nearly all":   {0.99, "███████▉"},
		"all":          {1, "████████"},
		"more than it": {1.2, "████████"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := bar(tt.share, 8); got != tt.want {
				t.Errorf("bar(%v) = %q, want %q", tt.share, got, tt.want)
			}
		})
	}
}
