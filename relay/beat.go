package relay

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

const (
	beatEvery  = 2 * time.Second  // a word to the server, and from it
	learnEvery = 10 * time.Second // what it knows, if that has changed
	keepEvery  = 10 * time.Second // what could not be kept is tried again
	missed     = 2                // beats in a row, and the server is away
	maxSeen    = 4096             // fetched files that wait to be reported
	seenAtOnce = 256              // of them in one report
	maxName    = 200              // of one; a request has no room for much more
)

// keepBeating tells the server every few seconds that we are here, and finds
// out that way whether it is.
func (r *Relay) keepBeating(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for silent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.beat(ctx)
		no, ok := errors.AsType[*refusal](err)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			silent = 0
		case ok && no.status/100 == 4 && !r.away.Load(): // it is there, and busy
			silent = 0
			r.o.Log.WarnContext(ctx, "report not taken", "err", err)
		default:
			if silent++; silent >= missed && !r.away.Swap(true) {
				r.o.Log.WarnContext(ctx, "server is away: known nodes go on, installs wait", "server", r.id.Server, "err", err)
			}
		}
	}
}

// beat is one word to the server. One that does not know us any more is there
// all the same: we were removed, and shall not stand in for it, now or later.
func (r *Relay) beat(ctx context.Context) error {
	seen := r.takeSeen()
	err := r.link.report(ctx, r.reportNow(seen))
	if no, ok := errors.AsType[*refusal](err); ok && no.removed() {
		r.away.Store(false)
		if !r.removed.Swap(true) {
			r.o.Log.ErrorContext(ctx, "server refuses this relay", "err", err)
		}
		return nil
	}
	if err != nil {
		r.putBack(seen)
		return err
	}
	r.removed.Store(false)
	if r.away.Load() {
		r.o.Log.InfoContext(ctx, "server is there", "server", r.id.Server)
		r.follow(ctx)   // perhaps somewhere else
		r.handOver(ctx) // before anybody else can ask it for an address
		r.away.Store(false)
		return r.ask(ctx)
	}
	r.handOver(ctx) // what it has not answered yet
	if now := r.o.Now(); now.Sub(r.learned) >= learnEvery {
		return r.ask(ctx)
	}
	return nil
}

// ask learns what the server knows: beside the beats, once there are some, for a
// large site comes slowly over a thin line, and the server shall hear of us
// meanwhile.
func (r *Relay) ask(ctx context.Context) error {
	r.learned = r.o.Now()
	if r.wake == nil {
		return r.refresh(ctx)
	}
	select {
	case r.wake <- struct{}{}:
	default: // it is at it
	}
	return nil
}

// keepLearning asks the server, whenever it is time, what it knows.
func (r *Relay) keepLearning(ctx context.Context) {
	told := ""
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		err := r.refresh(ctx)
		switch {
		case err == nil:
			told = ""
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			r.o.Log.WarnContext(ctx, "not learned what the server knows, asked again", "err", err)
		}
	}
}

func (r *Relay) reportNow(seen []api.RelayFetched) api.RelayReport {
	report := api.RelayReport{
		Version: r.o.Version, Seen: seen, Foreign: r.foreignNow(), Trouble: r.troublesNow(),
		Usage: api.RelayUsage{
			CacheBytes: r.cache.size(), CacheLimit: r.o.CacheLimit, Served: r.served.Load(), Fetched: r.cache.fetched.Load(),
			Requests: r.stats.requests.Load(), Relayed: r.stats.relayed.Load(), BOOTP: r.stats.bootp.Load(),
			Refused: r.stats.refused(), Away: r.stats.away.Load(), Strangers: r.stats.stranger.Load(), Unsent: r.stats.unsent.Load(),
			Panics: r.stats.panics.Load(),
			TFTP:   r.tally.tftp(), HTTP: r.tally.http(),
		},
	}
	if k := r.known.Load(); k != nil {
		for _, p := range r.ports() {
			for _, addr := range p.addrs() {
				if subnet, ok := k.subnetOf(addr); ok {
					report.Places = append(report.Places, api.RelayPlace{Subnet: subnet, Addr: addr})
				}
			}
		}
	}
	return report
}

// refresh asks what the server knows now, and keeps it for when it is away.
func (r *Relay) refresh(ctx context.Context) error {
	r.troubleOf(fleet.CodeRelayDisk, "who we are", r.id.retry())
	if pair := r.link.cert.Load(); pair != nil && dueForRenewal(pair, r.o.Now()) {
		if err := r.link.renew(ctx); err != nil {
			r.o.Log.WarnContext(ctx, "certificate not renewed, or not kept", "err", err)
		}
	}
	have := ""
	if k := r.known.Load(); k != nil {
		have = k.tag
	}
	s, tag, err := r.link.snapshot(ctx, have)
	if err != nil || s == nil {
		return err
	}
	first := r.known.Load() == nil
	if err := r.learn(*s, tag); err != nil {
		return err
	}
	select { // one that was not kept yet is out of date
	case <-r.keeping:
	default:
	}
	r.keeping <- kept{Tag: tag, Snapshot: *s}
	if first {
		return r.link.report(ctx, r.reportNow(nil)) // now that we know where we are
	}
	return nil
}

// keepSnapshots writes to disk what the server says, for the next start. The
// server hears of us meanwhile, however slow or full the disk is; what a full one
// did not take is tried again.
func (r *Relay) keepSnapshots(ctx context.Context) {
	again := time.NewTicker(keepEvery)
	defer again.Stop()
	var left *kept
	keep := func(k kept) {
		if left = nil; !r.keepSnapshot(ctx, k) {
			left = &k
		}
	}
	for ctx.Err() == nil {
		select {
		case k := <-r.keeping:
			keep(k)
		case <-again.C:
			if left != nil {
				keep(*left)
			}
		case <-ctx.Done():
		}
	}
	select {
	case k := <-r.keeping:
		keep(k)
	default:
	}
}

func (r *Relay) keepSnapshot(ctx context.Context, k kept) bool {
	err := writeJSON(filepath.Join(r.o.StateDir, snapshotFile), k)
	r.troubleOf(fleet.CodeRelayDisk, "what the server knows", err)
	if err != nil {
		r.o.Log.WarnContext(ctx, "what the server knows is not kept: after a start without it, an older state counts", "err", err)
	}
	return err == nil
}

func (r *Relay) learn(s api.RelaySnapshot, tag string) error {
	k, err := understand(s, tag, r.o.Interfaces, r.o.Log)
	if err != nil {
		return err
	}
	r.known.Store(k)
	return nil
}

// saw notes a file that a machine fetched.
func (r *Relay) saw(f api.RelayFetched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) < maxSeen {
		f.File = f.File[:min(len(f.File), maxName)]
		r.seen = append(r.seen, f)
	}
}

func (r *Relay) takeSeen() []api.RelayFetched {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.seen), seenAtOnce)
	seen := slices.Clone(r.seen[:n])
	r.seen = slices.Delete(r.seen, 0, n)
	return seen
}

func (r *Relay) putBack(seen []api.RelayFetched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = slices.Concat(seen, r.seen)
	r.seen = r.seen[:min(len(r.seen), maxSeen)]
}
