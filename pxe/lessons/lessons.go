// Package lessons learns from boots how a model of machines boots best.
//
// A [Learner] stands between those who see boots and the engine. It learns which
// loader starts (this file), which TFTP blocks come through (blocks.go), and
// whether PXE comes to nothing where HTTP works (byhttp.go); the rules are those of
// package pxe. What it knows is its book (book.go), of which what approved nodes
// have taught about models is stored. How a machine boots otherwise than usual is
// asked of it with each request ([Learner.Quirk]).
package lessons

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

const (
	watchedBoots = 1 << 16 // machines whose boots are followed at a time
	factQueue    = 4096
	expireBoots  = 5 * time.Second // and what they have taught is stored
)

// Boots are the nodes, and where facts of their boots go.
type Boots interface {
	Observe(ev fleet.Evidence) bool // false for a fact that is not kept
	NodeByMAC(mac fleet.MAC) (fleet.Node, bool)
	Site() fleet.Site
}

// A Store keeps what was learned of models.
type Store interface {
	Lessons(ctx context.Context) ([]fleet.Lesson, error)
	SaveLesson(ctx context.Context, l fleet.Lesson) error
}

// A Learner learns from boots which loader a model gets. Every fact goes on to the
// engine, and what follows from it becomes a fact of its own.
type Learner struct {
	boots  Boots
	store  Store
	log    *slog.Logger
	facts  chan fleet.Evidence
	open   atomic.Int64 // facts that are in the queue, or being taken in
	missed atomic.Int64

	mu    sync.Mutex
	watch *pxe.Watch
	book  book
}

// Stats are counters.
type Stats struct {
	Missed int64 // facts that came too fast to be learned from
}

// New returns a Learner that knows nothing yet.
func New(boots Boots, store Store, log *slog.Logger) *Learner {
	return &Learner{
		boots: boots, store: store, log: log, facts: make(chan fleet.Evidence, factQueue),
		watch: pxe.NewWatch(watchedBoots), book: newBook(),
	}
}

// Stats returns the counters.
func (l *Learner) Stats() Stats { return Stats{l.missed.Load()} }

// Observe takes a fact of a boot. It never blocks.
func (l *Learner) Observe(ev fleet.Evidence) {
	if !l.boots.Observe(ev) {
		return
	}
	if ev.Firmware == "" && ev.File == "" && ev.Phase != fleet.PhaseScript {
		return
	}
	if ev.Phase == fleet.PhaseScript && l.unwatched(ev.MAC) {
		return
	}
	l.open.Add(1)
	select {
	case l.facts <- ev:
	default:
		l.open.Add(-1)
		l.missed.Add(1)
	}
}

// unwatched reports whether no loader of a machine is known to be on trial, so
// that its asking for a script teaches nothing: a hall whose power comes back asks
// more often than anybody could be woken for. A fact that is not taken in yet may
// begin a trial.
func (l *Learner) unwatched(mac fleet.MAC) bool {
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	return l.open.Load() == 0 && !l.watch.Watches(mac)
}

// Load reads what was learned before.
func (l *Learner) Load(ctx context.Context) error {
	stored, err := l.store.Lessons(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lesson := range stored {
		l.book.models[lesson.Key()] = lesson
	}
	return nil
}

// Run follows boots until ctx is done.
func (l *Learner) Run(ctx context.Context) error {
	tick := time.NewTicker(expireBoots)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.save(context.WithoutCancel(ctx))
			return nil
		case ev := <-l.facts:
			l.takeIn(ev)
		case now := <-tick.C:
			l.mu.Lock()
			for _, v := range l.watch.Expire(now) {
				l.learn(v)
			}
			l.stranded(now)
			l.mu.Unlock()
			l.save(ctx)
		}
	}
}

func (l *Learner) takeIn(ev fleet.Evidence) {
	n, _ := l.boots.NodeByMAC(ev.MAC)
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.watch.See(ev, n); ok {
		l.learn(v)
	}
	l.open.Add(-1)
}

// save stores what is new, some of it at a time: each is a write that waits for
// the disk.
func (l *Learner) save(ctx context.Context) {
	l.mu.Lock()
	news := l.book.take()
	l.mu.Unlock()
	for _, lesson := range news {
		if err := l.store.SaveLesson(ctx, lesson); err != nil {
			l.log.ErrorContext(ctx, "lesson about a loader not stored", "model", pxe.ModelName(lesson.Model), "err", err)
		}
	}
}

// learn keeps what a boot has taught, and says what the model gets next time
// when its loader did not start. The caller holds mu.
func (l *Learner) learn(v pxe.Verdict) {
	loaders := pxe.LoadersFor(v.Firmware, pxe.Platform(v.Model.Platform))
	before, _ := l.book.of(v.Model)
	after, news := pxe.Learn(before, v.Outcome, loaders)
	if !v.Works {
		l.tell(v, after, loaders)
	}
	if news {
		l.book.keep(after)
	}
	l.learnWay(v)
}

// tell makes a fact of a loader that did not start: the machine's timeline
// shows it.
func (l *Learner) tell(v pxe.Verdict, after fleet.Lesson, loaders []pxe.Loader) {
	next := pxe.QuirkOf(after, loaders).Loader
	if next == "" && len(loaders) > 0 {
		next = loaders[0].File
	}
	text := fmt.Sprintf("%s was fetched and did not start; %s gets %s next time", v.Loader, pxe.ModelName(v.Model), next)
	if next == v.Loader {
		text = fmt.Sprintf("%s was fetched and did not start; it has worked on %s, so it gets another try", v.Loader, pxe.ModelName(v.Model))
		if len(loaders) == 1 {
			text = fmt.Sprintf("%s was fetched and did not start, and there is no other loader for it", v.Loader)
		}
	}
	l.boots.Observe(fleet.Evidence{At: v.At, MAC: v.MAC, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(text)})
	l.log.Warn("loader did not start", "mac", v.MAC, "model", pxe.ModelName(v.Model), "loader", v.Loader, "next", next)
}
