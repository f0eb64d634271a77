package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A feed is the console of one node: one port, many watchers.
type feed struct {
	hub  *Hub
	node fleet.NodeID
	wake chan struct{} // somebody came or went

	mu        sync.Mutex
	watchers  map[*Watcher]struct{}
	recording bool
	take      bool // the next attempt may take it from others
	port      Port // nil: not open
	ring      ring
	rec       *writer // nil: nothing is recorded now
	start     Start   // of the record
	booted    time.Time
	garbage   garbage
}

func newFeed(h *Hub, node fleet.NodeID) *feed {
	return &feed{hub: h, node: node, wake: make(chan struct{}, 1), watchers: map[*Watcher]struct{}{}}
}

// needed reports whether anybody needs the console; the caller holds mu.
func (f *feed) needed() bool { return f.recording || len(f.watchers) > 0 }

func (f *feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run opens the console as long as somebody needs it.
func (f *feed) run(ctx context.Context) {
	defer f.finish(ctx)
	pause := f.hub.o.Retry
	for ctx.Err() == nil {
		began := time.Now()
		err := f.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > mostRetry {
			pause = f.hub.o.Retry
		}
		if c := fleet.CodeOf(err); c == "E-SOL-TAKEN" || c == "E-SOL-HELD" || fleet.KindOf(err) == fleet.Denied {
			pause = mostRetry // whoever has it, or does not let us in, has a reason
		}
		f.fail(err, pause)
		if !f.rest(ctx, pause) {
			return
		}
		pause = min(2*pause, mostRetry)
	}
}

// once opens the console and follows it until it is lost, or nobody needs it.
func (f *feed) once(ctx context.Context) error {
	f.mu.Lock()
	take := f.take
	f.take = false
	f.mu.Unlock()
	port, err := f.hub.o.Open(ctx, f.node, take)
	if err != nil {
		return err
	}
	f.opened(port)
	watched, done := context.WithCancel(ctx)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f.untilUnneeded(watched)
		_ = port.Close() // which ends the reading
	}()
	err = f.follow(port)
	done()
	<-closed
	f.mu.Lock()
	f.port = nil
	f.mu.Unlock()
	return err
}

// untilUnneeded waits until nobody has needed the console for a while.
func (f *feed) untilUnneeded(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	idle := time.Now()
	for ctx.Err() == nil {
		f.mu.Lock()
		needed, rec := f.needed(), f.rec
		f.mu.Unlock()
		if needed {
			idle = time.Now()
		}
		if time.Since(idle) >= f.hub.o.Linger {
			return
		}
		if rec != nil {
			f.check(rec, rec.tick())
		}
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-tick.C:
		}
	}
}

// rest waits before the next attempt, and reports whether there is one. Who
// comes to watch need not wait.
func (f *feed) rest(ctx context.Context, pause time.Duration) bool {
	if f.hub.close(f) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return !f.hub.close(f)
		case <-f.wake:
			f.mu.Lock()
			waiting := f.waiting()
			f.mu.Unlock()
			if waiting {
				return true
			}
			if f.hub.close(f) {
				return false
			}
		}
	}
}

// waiting reports whether a watcher waits for the console to open; the caller
// holds mu.
func (f *feed) waiting() bool {
	for w := range f.watchers {
		if !w.told {
			return true
		}
	}
	return false
}

// opened tells everybody that the console is there.
func (f *feed) opened(p Port) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.port = p
	for w := range f.watchers {
		if !w.told {
			w.tell(nil)
		} else {
			f.send(w, Message{Kind: Notice, Text: "the console is open again"})
		}
	}
	f.hub.o.Log.Info("console opened", "node", f.node, "recorded", f.recording)
}

// fail tells everybody that the console is not there. Who has just come hears
// why, and need not stay.
func (f *feed) fail(err error, pause time.Duration) {
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	f.hub.o.Log.Warn("console not open", "node", f.node, "err", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		if !w.told {
			w.tell(err)
			f.remove(w, err)
			continue
		}
		f.send(w, Message{Kind: Notice, Text: fmt.Sprintf("%v; trying again in %s", err, pause)})
	}
}

// follow reads the console until its end.
func (f *feed) follow(p Port) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := p.Read(buf)
		if n > 0 {
			f.hear(append([]byte(nil), buf[:n]...), time.Now())
		}
		if err != nil {
			return err
		}
	}
}

// hear hands on what the machine wrote.
func (f *feed) hear(b []byte, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring.write(b)
	for w := range f.watchers {
		if w.told {
			f.send(w, Message{Kind: Output, Data: b})
		}
	}
	f.record(b, now)
	f.judge(b)
}

// record writes down what came, when that is wanted; the caller holds mu.
func (f *feed) record(b []byte, now time.Time) {
	if !f.recording || f.hub.o.Archive == nil {
		return
	}
	if f.rec == nil {
		if f.start == "" {
			f.start = begun
		}
		var err error
		if f.rec, err = f.hub.o.Archive.begin(f.node, string(f.start), now); err != nil {
			f.complain(err)
			return
		}
	}
	full, err := f.rec.write(b, now)
	if err != nil {
		f.complain(err)
	}
	if full || err != nil {
		f.endRecord(further)
	}
}

// endRecord closes the record, in which nobody has to wait; the caller holds mu.
func (f *feed) endRecord(next Start) {
	f.start = next
	rec := f.rec
	if f.rec = nil; rec == nil {
		return
	}
	f.hub.wg.Go(func() {
		if err := rec.end(); err != nil {
			f.complain(err)
		}
	})
}

func (f *feed) complain(err error) {
	f.hub.o.Log.Error("console not recorded", "node", f.node, "err", err)
}

// check ends a record that the disk does not take.
func (f *feed) check(rec *writer, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rec == rec {
		f.complain(err)
		f.endRecord(further)
	}
}

func (f *feed) setRecording(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recording = on; !on {
		f.endRecord("")
	}
	f.nudge()
}

// oneStart is how long the steps of one start may lie apart: firmware, iPXE and
// the kernel each ask for an address.
const oneStart = 3 * time.Minute

// mark begins a new record, unless it is the same start still.
func (f *feed) mark(s Start, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.recording {
		return
	}
	same := s == Network && now.Sub(f.booted) < oneStart
	f.booted = now
	if !same {
		f.endRecord(s)
	}
}

// finish gives everything back.
func (f *feed) finish(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endRecord("")
	for w := range f.watchers {
		err := io.EOF
		if ctx.Err() != nil {
			err = &fleet.Error{Kind: fleet.Unreachable, Code: "E-STOPPING", Op: "follow console", Err: errors.New("the server is stopping"), Hint: "try again in a moment"}
		}
		w.tell(err)
		f.remove(w, err)
	}
}
