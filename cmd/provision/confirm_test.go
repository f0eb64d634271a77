package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// person is an app with somebody at the terminal who types some lines.
func person(typed string) (a *app, stderr *strings.Builder) {
	stderr = &strings.Builder{}
	return &app{
		stdin: bufio.NewReader(strings.NewReader(typed)), stdout: io.Discard, stderr: stderr,
		getenv: func(string) string { return "" }, now: time.Now, terminal: true, width: func() int { return 100 },
	}, stderr
}

// oneShot is a server whose run is over as soon as it was started.
type oneShot struct {
	server
	plan    api.Plan
	started *api.StartRun
}

func (s *oneShot) Plan(context.Context, string) (api.Plan, error) { return s.plan, nil }

func (s *oneShot) Start(_ context.Context, pool string, r api.StartRun) (api.Run, error) {
	s.started = &r
	return api.Run{ID: pool + "-1", Pool: pool, State: "running", Started: nineOClock}, nil
}

func (s *oneShot) WaitRun(_ context.Context, id, _ string, _ time.Duration) (api.Run, error) {
	return api.Run{ID: id, Pool: "prd", State: "done", Started: nineOClock, Ended: at(time.Minute), Done: 1}, nil
}

func TestWhatAPersonTypesDecidesWhatStarts(t *testing.T) {
	safe := api.PlanItem{Title: "prd-1", Class: "add", Reason: "blank, approved"}
	held := api.PlanItem{Title: "prd-2", Class: "replace!", Reason: "has debian-11"}
	tests := map[string]struct {
		plan     []api.PlanItem
		typed    string
		code     int
		started  bool
		destroys bool
		question string
	}{
		"enter starts safe changes":           {[]api.PlanItem{safe}, "\n", 0, true, false, "Start the 1 safe change? [Y/n] "},
		"y starts safe changes":               {[]api.PlanItem{safe}, "y\n", 0, true, false, "Start the 1 safe change? [Y/n] "},
		"n declines":                          {[]api.PlanItem{safe}, "n\n", 5, false, false, "Start the 1 safe change? [Y/n] "},
		"nonsense declines":                   {[]api.PlanItem{safe}, "prd\n", 5, false, false, "Start the 1 safe change? [Y/n] "},
		"end of input declines":               {[]api.PlanItem{safe}, "", 5, false, false, "Start the 1 safe change? [Y/n] "},
		"y leaves what is held":               {[]api.PlanItem{safe, held}, "y\n", 0, true, false, `[Y/n, or type "prd" to start the 1 held too]`},
		"the pool's name starts held changes": {[]api.PlanItem{safe, held}, "prd\n", 0, true, true, `[Y/n, or type "prd" to start the 1 held too]`},
		"y does not start only held changes":  {[]api.PlanItem{held}, "y\n", 5, false, false, `Type "prd" to start the 1 held change`},
		"enter declines only held changes":    {[]api.PlanItem{held}, "\n", 5, false, false, `Type "prd" to start the 1 held change`},
		"the name starts only held changes":   {[]api.PlanItem{held}, "prd\n", 0, true, true, `Type "prd" to start the 1 held change`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, stderr := person(tt.typed)
			srv := &oneShot{plan: api.Plan{Pool: "prd", Hash: "h", Items: tt.plan}}
			a.connect = func(context.Context) (server, error) { return srv, nil }
			if got := a.run(t.Context(), []string{"--pool", "prd"}); got != tt.code {
				t.Errorf("exit code %d, want %d\n%s", got, tt.code, stderr)
			}
			if got := srv.started != nil; got != tt.started {
				t.Fatalf("started = %v, want %v", got, tt.started)
			}
			if tt.started && (srv.started.Destructive != tt.destroys || srv.started.Plan != "h") {
				t.Errorf("started %+v, want destructive %v of plan h", *srv.started, tt.destroys)
			}
			if !strings.Contains(stderr.String(), tt.question) || !strings.Contains(stderr.String(), "Plan for pool prd") {
				t.Errorf("asked %q, want %q after the plan", stderr, tt.question)
			}
		})
	}
}

func TestCtrlCAtTheQuestionChangesNothing(t *testing.T) {
	a, _ := person("")
	in, out := io.Pipe()
	defer out.Close()
	a.stdin = bufio.NewReader(in)
	srv := &oneShot{plan: api.Plan{Pool: "prd", Items: []api.PlanItem{{Title: "prd-1", Class: "add"}}}}
	a.connect = func(context.Context) (server, error) { return srv, nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := a.run(ctx, []string{"--pool", "prd"}); got != exitInterrupted || srv.started != nil {
		t.Errorf("exit code %d, started %v; want %d and nothing", got, srv.started, exitInterrupted)
	}
}
