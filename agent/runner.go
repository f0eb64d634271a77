package agent

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// An outcome is what a step brought, beside that it was done.
type outcome struct {
	text   string
	docker *api.DockerResponse
	joined *api.Joined
	bmc    *api.BMCReport
	after  func() error // runs when the server has the final report: reboot
}

// A doer does one kind of step. It tells progress in percent, and what it is
// at, as often as it likes.
type doer func(ctx context.Context, s *api.Step, progress func(percent int, text string)) (outcome, error)

// A runner runs one step at a time and remembers how it ended, so that no
// step runs twice and no report is lost.
type runner struct {
	doers map[string]doer
	log   *slog.Logger

	mu      sync.Mutex
	current *running
	past    []*running // newest last
}

// A running is a step that was started once.
type running struct {
	report api.StepReport
	after  func() error
	taken  bool // the server has the final report
	cancel context.CancelFunc
	done   chan struct{} // closed when it is over
}

// mostPast is how many steps are remembered, with their answers. The server
// asks about the last one only, unless it was restored from a backup.
const mostPast = 8

func (r *running) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// take starts a step that is new. One that is under way goes on; one that is
// over is reported on again.
func (r *runner) take(ctx context.Context, s *api.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.report.StepID == s.ID {
		r.current.taken = false
		return
	}
	if i := slices.IndexFunc(r.past, func(p *running) bool { return p.report.StepID == s.ID }); i >= 0 {
		r.past[i].taken = false
		r.current = r.past[i]
		return
	}
	if r.current != nil && !r.current.over() {
		// The server gave up on it. Two at once would write to one disk.
		r.log.Warn("step canceled by the server", "step", r.current.report.StepID)
		r.current.cancel()
		return // comes again; by then the old one is over
	}
	r.start(ctx, s)
}

func (r *runner) start(ctx context.Context, s *api.Step) {
	ctx, cancel := context.WithCancel(ctx)
	run := &running{cancel: cancel, done: make(chan struct{})}
	run.report = api.StepReport{StepID: s.ID, State: "running"}
	r.current = run
	r.past = append(r.past, run)
	if len(r.past) > mostPast {
		r.past = r.past[1:]
	}
	r.log.Info("step started", "kind", s.Kind, "step", s.ID)
	go r.run(ctx, run, s)
}

func (r *runner) run(ctx context.Context, run *running, s *api.Step) {
	defer run.cancel()
	begun := time.Now()
	result, err := r.do(ctx, run, s)
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(run.done)
	if err != nil {
		run.report.State = "failed"
		run.report.Code, run.report.Text = string(fault.CodeOf(err)), err.Error()
		r.log.Error("step failed", "kind", s.Kind, "step", s.ID, "code", run.report.Code, "err", err)
		return
	}
	run.report.State, run.report.Progress, run.report.Text = "done", 100, result.text
	run.report.Docker, run.report.Joined, run.report.BMC = result.docker, result.joined, result.bmc
	run.after = result.after
	r.log.Info("step done", "kind", s.Kind, "step", s.ID, "took", time.Since(begun).Round(time.Millisecond), "text", run.report.Text)
}

// do calls the doer, and makes a failure of a panic: the agent stays there to
// be asked.
func (r *runner) do(ctx context.Context, run *running, s *api.Step) (result outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Errorf(fault.StepCrashed, "step %s crashed: %v: %.2000s", s.Kind, p, debug.Stack())
		}
	}()
	do := r.doers[s.Kind]
	if do == nil {
		return outcome{}, fault.Errorf(fault.StepUnknown, "this agent knows no step %.40q here; is it older than the server?", s.Kind)
	}
	return do(ctx, s, func(percent int, text string) { r.progress(run, s.Kind, percent, text) })
}

func (r *runner) progress(run *running, kind string, percent int, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := run.report.Progress
	run.report.Progress, run.report.Text = min(max(percent, before), 99), text
	if percent/10 > before/10 {
		r.log.Info("step under way", "kind", kind, "percent", percent, "text", text)
	}
}

// report returns what is to be told, or nil when there is nothing to say.
func (r *runner) report() *api.StepReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || r.current.taken {
		return nil
	}
	copied := r.current.report
	return &copied
}

// told notes that the server has a report. It returns what to do now that it
// knows, or nil.
func (r *runner) told(report *api.StepReport) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if report == nil || report.State == "running" || r.current == nil || r.current.report.StepID != report.StepID {
		return nil
	}
	r.current.taken = true
	return r.current.after
}

// busy returns a channel that closes when the step under way is over, or nil
// when there is none.
func (r *runner) busy() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || r.current.over() {
		return nil
	}
	return r.current.done
}

// stop ends what is under way and waits for it.
func (r *runner) stop() {
	r.mu.Lock()
	run := r.current
	r.mu.Unlock()
	if run == nil {
		return
	}
	run.cancel()
	<-run.done
}

// need returns an error when the part of the step that its kind is about is
// missing.
func need[T any](part *T, s *api.Step) (*T, error) {
	if part == nil {
		return nil, fault.Errorf(fault.StepUnknown, "step %s came without its details", s.Kind)
	}
	return part, nil
}
