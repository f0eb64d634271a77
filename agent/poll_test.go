package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// A tally counts how often each step ran.
type tally struct {
	mu  sync.Mutex
	ran map[string]int
	do  func(ctx context.Context, s *api.Step) (outcome, error)
}

func (c *tally) doer(ctx context.Context, s *api.Step, _ func(int, string)) (outcome, error) {
	c.mu.Lock()
	c.ran[s.ID]++
	c.mu.Unlock()
	if c.do == nil {
		return outcome{}, nil
	}
	return c.do(ctx, s)
}

func (c *tally) times(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ran[id]
}

// polling starts a poller and returns what waits for its end.
func polling(t *testing.T, c *client, doers map[string]doer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	p := &poller{client: c, runner: &runner{doers: doers, log: log}, log: log, bootID: "b", version: "v"}
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the script is not over after a minute")
	}
}

func steps(kinds ...string) []*api.Step {
	var out []*api.Step
	for i, k := range kinds {
		out = append(out, &api.Step{ID: string(rune('1' + i)), Kind: k})
	}
	return out
}

func TestStepsRunOnceEachAndInOrder(t *testing.T) {
	s := newScripted(t, steps("a", "bad", "crash", "unheard-of", "a")...)
	s.forget = 2 // the server loses the first two reports
	count := &tally{ran: map[string]int{}, do: func(_ context.Context, s *api.Step) (outcome, error) {
		switch s.Kind {
		case "bad":
			return outcome{}, fault.Errorf(fault.DiskSmall, "too small")
		case "crash":
			var none *api.Step
			return outcome{text: none.ID}, nil
		}
		return outcome{text: "fine", joined: &api.Joined{NodeID: "x"}}, nil
	}}
	doers := map[string]doer{"a": count.doer, "bad": count.doer, "crash": count.doer}
	stop := polling(t, known(t, s, s.start("").URL), doers)
	await(t, s.over)
	_ = stop()
	want := []string{"1 done", "2 failed", "3 failed", "4 failed", "5 done"}
	if got := s.states(); !slices.Equal(got, want) {
		t.Errorf("reports = %v, want %v", got, want)
	}
	for _, id := range []string{"1", "2", "3", "5"} {
		if n := count.times(id); n != 1 {
			t.Errorf("step %s ran %d times", id, n)
		}
	}
	codes := []string{"", "E-DISK-SMALL", "E-STEP-CRASHED", "E-STEP-UNKNOWN", ""}
	for i, r := range s.reports {
		if r.Code != codes[i] {
			t.Errorf("step %s has code %q, want %q", r.StepID, r.Code, codes[i])
		}
	}
	if first := s.reports[0]; first.Progress != 100 || first.Joined == nil || first.Text != "fine" {
		t.Errorf("the repeated report lost something: %+v", first)
	}
}

func TestStepsGoOnWhileTheServerIsAway(t *testing.T) {
	s := newScripted(t, steps("long", "long")...)
	srv := s.start("")
	addr := srv.Listener.Addr().String()
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	count := &tally{ran: map[string]int{}, do: func(context.Context, *api.Step) (outcome, error) {
		once.Do(func() { close(started) })
		<-release
		return outcome{}, nil
	}}
	stop := polling(t, known(t, s, srv.URL), map[string]doer{"long": count.doer})
	await(t, started)
	srv.CloseClientConnections()
	srv.Close()
	close(release) // the step ends while nobody listens
	s.start(addr)
	await(t, s.over)
	_ = stop()
	if count.times("1") != 1 || count.times("2") != 1 {
		t.Errorf("the steps ran %v times, want once each", count.ran)
	}
}

func TestRebootWaitsUntilTheServerKnows(t *testing.T) {
	s := newScripted(t, steps("reboot")...)
	s.forget = 0
	s.refuse = func(poll int) int { return map[bool]int{true: http.StatusBadGateway}[poll > 1 && poll < 4] }
	down := make(chan struct{})
	in := &installer{restart: func(off bool) error {
		if off {
			t.Error("switched off instead of restarted")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.reports) != 1 {
			t.Errorf("restarted with %d reports taken", len(s.reports))
		}
		close(down)
		return nil
	}}
	stop := polling(t, known(t, s, s.start("").URL), in.doers())
	await(t, down)
	_ = stop()
}

func TestStepThatTheServerGaveUpIsCanceled(t *testing.T) {
	s := newScripted(t, steps("long", "short")...)
	started := make(chan struct{})
	count := &tally{ran: map[string]int{}}
	long := func(ctx context.Context, _ *api.Step, _ func(int, string)) (outcome, error) {
		close(started)
		<-ctx.Done()
		return outcome{}, ctx.Err()
	}
	stop := polling(t, known(t, s, s.start("").URL), map[string]doer{"long": long, "short": count.doer})
	await(t, started)
	s.mu.Lock()
	s.steps = s.steps[1:]
	s.mu.Unlock()
	await(t, s.over)
	_ = stop()
	if count.times("2") != 1 {
		t.Errorf("the next step ran %d times, want once", count.times("2"))
	}
}

func TestServerIsNotAskedInATightLoop(t *testing.T) {
	s := newScripted(t) // answers "nothing" at once
	idle := make(chan struct{})
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	p := &poller{client: known(t, s, s.start("").URL), runner: &runner{log: log}, log: log, idle: sync.OnceFunc(func() { close(idle) })}
	_ = p.run(ctx)
	if s.polls < 2 || s.polls > 4 {
		t.Errorf("asked %d times in 2.5 s, want 3", s.polls)
	}
	select {
	case <-idle:
	default:
		t.Error("nobody was told that there is nothing to do")
	}
}

func TestAgentWhoseCertificateIsOverStopsAsking(t *testing.T) {
	s := newScripted(t)
	srv := s.start("")
	c := known(t, s, srv.URL)
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := adopt(c, s.ca.certify(id.csr, -time.Second), id.keyPEM); err != nil {
		t.Fatal(err)
	}
	s.refuse = func(int) int { return http.StatusUnauthorized }
	log := slog.New(slog.DiscardHandler)
	p := &poller{client: c, runner: &runner{log: log}, log: log}
	if err := p.run(t.Context()); !errors.Is(err, errOutcast) {
		t.Errorf("run = %v, want %v", err, errOutcast)
	}
}

func TestNeighbourHeardLaterIsToldOnce(t *testing.T) {
	s := newScripted(t, steps("a", "a")...)
	s.refuse = func(poll int) int { return map[bool]int{true: http.StatusBadGateway}[poll == 1] }
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	log := slog.New(slog.DiscardHandler)
	count := &tally{ran: map[string]int{}}
	p := &poller{
		client: known(t, s, s.start("").URL), runner: &runner{log: log, doers: map[string]doer{"a": count.doer}}, log: log,
		changed: changed, inventory: func(context.Context) *api.Inventory { return &api.Inventory{Vendor: "new"} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	await(t, s.over)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want %v", err, context.Canceled)
	}
	if len(s.news) != 2 || s.news[0].Vendor != "new" {
		t.Errorf("the server was told %v, want twice: once in vain", s.news)
	}
}
