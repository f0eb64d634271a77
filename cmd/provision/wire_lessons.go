package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/store"
)

const (
	watchedBoots = 1 << 16 // machines whose boots are followed at a time
	factQueue    = 4096
	expireBoots  = 5 * time.Second // and what they have taught is stored
)

// lessons learns from boots which loader a model gets. It stands between those
// who see boots and the engine: every fact goes on to the engine, and what
// follows from it becomes a fact of its own.
type lessons struct {
	engine *engine.Engine
	store  *store.Store
	log    *slog.Logger
	facts  chan fleet.Evidence
	open   atomic.Int64 // facts that are in the queue, or being taken in
	missed atomic.Int64 // facts that did not fit into the queue

	mu    sync.Mutex
	watch *pxe.Watch
	book  lessonBook
}

func newLessons(e *engine.Engine, s *store.Store, log *slog.Logger) *lessons {
	return &lessons{
		engine: e, store: s, log: log, facts: make(chan fleet.Evidence, factQueue),
		watch: pxe.NewWatch(watchedBoots), book: newLessonBook(),
	}
}

// Observe takes a fact of a boot. It never blocks.
func (l *lessons) Observe(ev fleet.Evidence) {
	if !l.engine.Observe(ev) {
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
func (l *lessons) unwatched(mac fleet.MAC) bool {
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	return l.open.Load() == 0 && !l.watch.Watches(mac)
}

func (l *lessons) load(ctx context.Context) error {
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

// run follows boots until ctx is done.
func (l *lessons) run(ctx context.Context) error {
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

func (l *lessons) takeIn(ev fleet.Evidence) {
	n, _ := l.engine.NodeByMAC(ev.MAC)
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.watch.See(ev, n); ok {
		l.learn(v)
	}
	l.open.Add(-1)
}

// save stores what is new, some of it at a time: each is a write that waits for
// the disk.
func (l *lessons) save(ctx context.Context) {
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
func (l *lessons) learn(v pxe.Verdict) {
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
func (l *lessons) tell(v pxe.Verdict, after fleet.Lesson, loaders []pxe.Loader) {
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
	l.engine.Observe(fleet.Evidence{At: v.At, MAC: v.MAC, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(text)})
	l.log.Warn("loader did not start", "mac", v.MAC, "model", pxe.ModelName(v.Model), "loader", v.Loader, "next", next)
}

// quirk is how a machine boots otherwise than usual: as site.yaml says, then
// as was learned of its model, then of itself.
func (l *lessons) quirk(r pxe.Request, n fleet.Node) fleet.Quirk {
	q := l.declared(r, n)
	if q.BlockSize == 0 {
		l.mu.Lock()
		q.BlockSize, _ = l.block(r.MAC, n)
		l.mu.Unlock()
	}
	if q.HTTP == fleet.HTTPAsAsked && l.leaveToHTTP(r, n) {
		q.HTTP, q.Reason = fleet.HTTPAlways, leftToHTTP
		return q
	}
	if q.Loader != "" {
		return q
	}
	learned := l.learned(r, n)
	if learned.Loader == "" {
		return q
	}
	if q.Reason != "" {
		learned.Reason = q.Reason + "; " + learned.Reason
	}
	q.Loader, q.Reason = learned.Loader, learned.Reason
	return q
}

// declared is what site.yaml says. Who asks not as a firmware, but for a file
// by TFTP, has a platform that is not known.
func (l *lessons) declared(r pxe.Request, n fleet.Node) fleet.Quirk {
	for _, q := range l.engine.Site().Quirks {
		if q.Fits(r.MAC, n) && (q.Platform == "" || r.Firmware == pxe.NoBoot || q.Platform == string(r.Platform())) {
			return q
		}
	}
	return fleet.Quirk{}
}

// learned is what boots have taught. A firmware that asks again although it
// has had a loader teaches at this very moment.
func (l *lessons) learned(r pxe.Request, n fleet.Node) fleet.Quirk {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Firmware == pxe.ROM || r.Firmware == pxe.HTTP {
		if v, ok := l.watch.AsksAgain(r.MAC, time.Now()); ok {
			l.learn(v)
		}
	}
	return l.recall(r.MAC, n, r.Platform(), r.Firmware)
}

// recall is what is known of a machine's model, or else of itself. The caller
// holds mu.
func (l *lessons) recall(mac fleet.MAC, n fleet.Node, platform pxe.Platform, by pxe.Firmware) fleet.Quirk {
	for _, model := range []fleet.Quirk{pxe.ModelOf(mac, n, platform), pxe.ModelOf(mac, fleet.Node{}, platform)} {
		if lesson, ok := l.book.of(model); ok {
			return pxe.QuirkOf(lesson, pxe.LoadersFor(by, platform))
		}
	}
	return fleet.Quirk{}
}

// ofNode is how a node will boot otherwise than usual, for people: it teaches
// nothing.
func (l *lessons) ofNode(n fleet.Node) fleet.Quirk {
	l.mu.Lock()
	defer l.mu.Unlock()
	q, declared := l.loaderOf(n), l.declared(pxe.Request{MAC: n.MAC}, n)
	var why []string
	if q.Reason != "" {
		why = append(why, q.Reason)
	}
	if blocks := l.blockReason(n.MAC, n); blocks != "" && declared.BlockSize == 0 {
		why = append(why, blocks)
	}
	if declared.HTTP == fleet.HTTPAsAsked && l.prefersHTTP(n) {
		why = append(why, "left to HTTP boot, "+leftToHTTP)
	}
	q.Reason = strings.Join(why, "; ")
	return q
}

func (l *lessons) loaderOf(n fleet.Node) fleet.Quirk {
	for _, platform := range platformsOf(n.Inventory) {
		for _, q := range l.engine.Site().Quirks {
			if q.Fits(n.MAC, n) && (q.Platform == "" || q.Platform == string(platform)) && q.Loader != "" {
				return fleet.Quirk{Loader: q.Loader, Reason: cmp.Or(q.Reason, "site.yaml says so")}
			}
		}
		if q := l.recall(n.MAC, n, platform, pxe.ROM); q.Loader != "" {
			return q
		}
	}
	return fleet.Quirk{}
}

// platformsOf is what a machine may be. One whose agent has not told may be any.
func platformsOf(inv fleet.Inventory) []pxe.Platform {
	switch {
	case inv.Arch == "arm64":
		return []pxe.Platform{pxe.PlatformARM64}
	case inv.Firmware == "bios":
		return []pxe.Platform{pxe.PlatformBIOS}
	case inv.Firmware != "":
		return []pxe.Platform{pxe.PlatformX64}
	default:
		return []pxe.Platform{pxe.PlatformX64, pxe.PlatformBIOS, pxe.PlatformARM64}
	}
}

// bootEngine is the engine as the web server sees it: what it observes teaches.
type bootEngine struct {
	*engine.Engine
	lessons *lessons
}

// Observe implements httpd.Boots.
func (b bootEngine) Observe(ev fleet.Evidence) { b.lessons.Observe(ev) }
