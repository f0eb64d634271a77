package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

const (
	longPoll    = 25 * time.Second // that the server may keep us waiting
	reportEvery = time.Second
	outcast     = 10 * time.Minute // after this long without being let in, stop asking
)

// errOutcast means that the server does not know us any more, or that our
// certificate is over: only a new start helps.
var errOutcast = errors.New("the server does not accept this agent's certificate any more")

// A poller asks for steps for ever.
type poller struct {
	client    *client
	runner    *runner
	log       *slog.Logger
	version   string
	bootID    string
	installed bool
	idle      func()                               // called when the server had nothing for us
	changed   <-chan struct{}                      // the inventory is another now; may be nil
	inventory func(context.Context) *api.Inventory // reads it anew

	news *api.Inventory // that the server does not have yet
}

// run ends with ctx, or with errOutcast.
func (p *poller) run(ctx context.Context) error {
	defer p.runner.stop()
	var delay retry.Delay
	var refused time.Time // since when
	away := false
	for ctx.Err() == nil {
		begun := time.Now()
		report, wait := p.question()
		reply, err := p.poll(ctx, report, wait)
		switch {
		case err == nil:
			refused = time.Time{}
			delay.Reset()
			if away {
				p.log.Info("server answers again")
				away = false
			}
			p.digest(ctx, report, reply)
			if p.runner.busy() != nil || repeated(report, reply.Step) || (wait > 0 && reply.Step == nil) {
				p.rest(ctx, begun)
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case !away:
			p.log.Warn("server does not answer, trying on", "server", p.client.server.Host, "err", err)
			away = true
		}
		if refused = p.refusedSince(refused, err); p.lost(refused) {
			return errOutcast
		}
		_ = retry.Pause(ctx, delay.Next()) // the loop sees to ctx
	}
	return ctx.Err()
}

// question returns what to tell, and how long the server may take to answer:
// long only when we have nothing to do and nothing to say.
func (p *poller) question() (*api.StepReport, time.Duration) {
	report := p.runner.report()
	if report != nil || p.runner.busy() != nil {
		return report, 0
	}
	return nil, longPoll
}

func (p *poller) poll(ctx context.Context, report *api.StepReport, wait time.Duration) (api.PollReply, error) {
	select {
	case <-p.changed:
		p.news = p.inventory(ctx)
	default:
	}
	var reply api.PollReply
	err := p.client.call(ctx, api.PathPoll, api.PollRequest{
		BootID: p.bootID, Installed: p.installed, Version: p.version, Report: report, Inventory: p.news, Wait: int(wait / time.Second),
	}, &reply, wait+oneCall)
	if err == nil {
		p.news = nil
	}
	return reply, err
}

// repeated reports whether the server asks for the very step whose end it was
// just told.
func repeated(report *api.StepReport, step *api.Step) bool {
	return report != nil && step != nil && report.StepID == step.ID && report.State != "running"
}

// digest does what the answer says: the report is taken, perhaps with
// something to do now, and there may be a step.
func (p *poller) digest(ctx context.Context, report *api.StepReport, reply api.PollReply) {
	if after := p.runner.told(report); after != nil {
		if err := after(); err != nil {
			p.log.Error("did not get done what was reported as done", "err", err)
		}
	}
	switch {
	case reply.Step != nil && reply.Step.Kind != "wait":
		p.runner.take(ctx, reply.Step)
	case report == nil && p.idle != nil && p.runner.busy() == nil:
		p.idle()
	}
}

// rest keeps the pace: while a step runs, the next report goes out when it is
// over or after a second. A server that answers "nothing", or the same again,
// at once is not asked in a tight loop either.
func (p *poller) rest(ctx context.Context, begun time.Time) {
	t := time.NewTimer(max(0, reportEvery-time.Since(begun)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.runner.busy(): // nil blocks
	case <-ctx.Done():
	}
}

func (p *poller) refusedSince(since time.Time, err error) time.Time {
	problem, ok := errors.AsType[*api.Problem](err)
	switch {
	case !ok || (problem.Status != http.StatusUnauthorized && problem.Status != http.StatusForbidden):
		return time.Time{}
	case since.IsZero():
		return time.Now()
	default:
		return since
	}
}

// lost reports whether asking on makes no sense. A step that is under way is
// finished first.
func (p *poller) lost(refused time.Time) bool {
	if p.runner.busy() != nil {
		return false
	}
	return p.client.expired() || !refused.IsZero() && time.Since(refused) > outcast
}
