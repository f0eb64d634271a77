package oob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A guest is a BMC, or whoever else has an address there. While it is being
// visited, tried and logins are its visit's.
type guest struct {
	addr   netip.Addr
	next   time.Time       // not before
	wait   time.Duration   // the last pause
	busy   bool            // it is being visited
	end    func()          // ends the visit
	slow   bool            // its last visit took all the time that there was
	tried  map[string]bool // accounts, sealed: each once
	logins int
	alarm  string // what it is called in an alarm; "" for none
	detail string
}

const (
	mostGuests  = 4096
	mostAtOnce  = 64
	mostSlow    = mostAtOnce / 2 // of them, who took too long before: the other half is for everybody else
	mostLogins  = 3              // of all accounts together: BMCs lock out who tries more
	firstPause  = time.Minute
	longestWait = 30 * time.Minute
	visitWithin = 5 * time.Minute
)

// Run looks until ctx is done. Then it waits for the visits that are under way.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.visits.Wait()
	every := w.Every
	if every <= 0 {
		every = 15 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		w.round(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round begins to visit who is due, and repeats the alarms of those who are not.
// It waits for no visit: whoever takes its time keeps nobody else waiting.
func (w *Watcher) round(ctx context.Context, now time.Time) {
	leases := w.bound(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []fleet.Lease
	for _, l := range leases {
		if w.due(l, now) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b fleet.Lease) int { return w.seen[a.MAC].next.Compare(w.seen[b.MAC].next) }) // who has waited longest
	w.begin(ctx, due, now)
	w.forget(leases)
}

// bound returns the leases of those who may be BMCs, of each the last one.
func (w *Watcher) bound(now time.Time) map[fleet.MAC]fleet.Lease {
	leases := map[fleet.MAC]fleet.Lease{}
	for _, subnet := range w.Engine.Site().Subnets {
		if !subnet.OOB {
			continue
		}
		for _, l := range w.Leases.Leases(subnet.Name, netip.Addr{}, mostGuests) {
			other, known := leases[l.MAC]
			if l.State != fleet.LeaseBound || !l.Expires.After(now) || !known && len(leases) >= mostGuests || known && !l.Expires.After(other.Expires) {
				continue
			}
			leases[l.MAC] = l
		}
	}
	return leases
}

// due reports whether the guest behind a lease is to be visited now. Who has
// moved is looked at at once: a visit where it was ends, for the next round.
func (w *Watcher) due(l fleet.Lease, now time.Time) bool {
	if w.seen == nil {
		w.seen = map[fleet.MAC]*guest{}
	}
	g := w.seen[l.MAC]
	if g == nil {
		g = &guest{addr: l.Addr, next: now, tried: map[string]bool{}}
		w.seen[l.MAC] = g
	}
	if g.addr != l.Addr {
		g.addr, g.next, g.wait = l.Addr, time.Time{}, 0
		if g.busy {
			g.end()
		}
	}
	if now.Before(g.next) && g.alarm != "" {
		w.Engine.Raise(fleet.CodeBMCStranger, g.alarm, g.detail)
	}
	return !g.busy && !now.Before(g.next)
}

// begin visits as many as there is room for. The others come next time.
func (w *Watcher) begin(ctx context.Context, due []fleet.Lease, now time.Time) {
	all, slow := 0, 0
	count := func(g *guest) {
		all++
		if g.slow {
			slow++
		}
	}
	for _, g := range w.seen {
		if g.busy {
			count(g)
		}
	}
	for _, l := range due {
		g := w.seen[l.MAC]
		if all >= mostAtOnce || g.slow && slow >= mostSlow {
			continue
		}
		g.busy = true
		count(g)
		g.wait = min(max(2*g.wait, firstPause), longestWait)
		g.next = now.Add(g.wait)
		within, end := context.WithTimeout(ctx, visitWithin)
		g.end = end
		w.visits.Go(func() {
			defer end()
			w.visit(ctx, within, l, g)
		})
	}
}

// forget drops those whose leases are over, each after its visit.
func (w *Watcher) forget(leases map[fleet.MAC]fleet.Lease) {
	maps.DeleteFunc(w.seen, func(mac fleet.MAC, g *guest) bool {
		_, present := leases[mac]
		gone := !present && !g.busy
		if gone && g.alarm != "" {
			w.Engine.Clear(fleet.CodeBMCStranger, g.alarm)
		}
		return gone
	})
}

// visit meets a guest, and tells people of what they should see to. The pause
// after it begins when it is over. What failed where a guest is no more is
// nobody's fault.
func (w *Watcher) visit(ctx, within context.Context, l fleet.Lease, g *guest) {
	began := time.Now()
	err := w.meet(within, l, g)
	w.mu.Lock()
	defer w.mu.Unlock()
	g.busy = false
	moved := g.next.IsZero()
	if moved && err != nil {
		return
	}
	if !moved {
		g.next = g.next.Add(time.Since(began))
	}
	g.slow = err != nil && within.Err() != nil
	if g.slow {
		err = fmt.Errorf("it was not done within %s: %v", visitWithin, err) // not %w: whoever keeps us is somebody
	}
	if ctx.Err() == nil {
		w.tell(ctx, l, g, err)
	}
}

// tell says what came of a visit.
func (w *Watcher) tell(ctx context.Context, l fleet.Lease, g *guest, err error) {
	on := fmt.Sprintf("BMC %s at %s", l.MAC, l.Addr)
	if g.alarm != "" && (g.alarm != on || err == nil || errors.Is(err, errNobody)) {
		w.Engine.Clear(fleet.CodeBMCStranger, g.alarm)
		g.alarm = ""
	}
	switch {
	case err == nil:
		g.wait = longestWait / 2 // all is well: seldom
	case errors.Is(err, errNobody):
		w.Log.DebugContext(ctx, "no BMC at an address for BMCs", "mac", l.MAC, "addr", l.Addr)
	default:
		w.Log.WarnContext(ctx, "BMC not taken in", "mac", l.MAC, "addr", l.Addr, "err", err)
		g.alarm, g.detail = on, err.Error()
		w.Engine.Raise(fleet.CodeBMCStranger, on, g.detail)
	}
}
