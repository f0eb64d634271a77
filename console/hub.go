package console

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Port is a serial console that is open.
type Port interface {
	io.ReadWriteCloser
	Break() error
}

// Alarms is told of consoles that cannot be read.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// Options are what a hub works with. Those without a remark must be set.
type Options struct {
	// Open opens the console of a node; take: from somebody else who has it.
	Open func(ctx context.Context, node fleet.NodeID, take bool) (Port, error)
	// Title is what people call a node, and how fast its BMC reads its port.
	Title   func(node fleet.NodeID) string
	Archive *Archive     // nil: nothing is recorded
	Alarms  Alarms       // may be nil
	Log     *slog.Logger // nil: silent

	Most   int           // consoles that are open; 0: 1000
	Linger time.Duration // that a console stays open when nobody needs it any more; 0: 10 s
	Retry  time.Duration // after a console was lost, doubling up to a minute; 0: 2 s
}

// A Hub has the consoles of all nodes. It is safe for concurrent use.
type Hub struct {
	o Options

	ctx  context.Context //nolint:containedctx // the life of the hub, which consoles outlive requests in
	stop context.CancelFunc

	mu    sync.Mutex
	feeds map[fleet.NodeID]*feed
	ended bool
	wg    sync.WaitGroup
}

// mostRetry is the longest pause between two attempts.
const mostRetry = time.Minute

// NewHub makes a hub. It opens nothing by itself.
func NewHub(o Options) *Hub {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Title == nil {
		o.Title = func(n fleet.NodeID) string { return string(n) }
	}
	o.Most = cmp.Or(o.Most, 1000)
	o.Linger, o.Retry = cmp.Or(o.Linger, 10*time.Second), cmp.Or(o.Retry, 2*time.Second)
	ctx, stop := context.WithCancel(context.Background())
	return &Hub{o: o, ctx: ctx, stop: stop, feeds: map[fleet.NodeID]*feed{}}
}

// Run waits for the end and then gives all consoles back.
func (h *Hub) Run(ctx context.Context) error {
	<-ctx.Done()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.stop()
	h.wg.Wait()
	if h.o.Archive != nil {
		return h.o.Archive.Close()
	}
	return nil
}

// Archive is what was recorded; nil when nothing is.
func (h *Hub) Archive() *Archive { return h.o.Archive }

var errManyConsoles = errors.New("too many consoles are open")

func errStopping() error {
	return &fleet.Error{Kind: fleet.Unreachable, Code: "E-STOPPING", Op: "open console", Err: errors.New("the server is stopping"), Hint: "try again in a moment"}
}

// with calls f with the feed of a node, which it begins when there is none. The
// feed cannot end meanwhile.
func (h *Hub) with(node fleet.NodeID, f func(*feed) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd, ok := h.feeds[node]
	if !ok {
		switch {
		case h.ended:
			return errStopping()
		case len(h.feeds) >= h.o.Most:
			return &fleet.Error{Kind: fleet.Conflict, Code: "E-CONSOLES", Op: "open console", Err: errManyConsoles, Hint: "close some of them"}
		}
		fd = newFeed(h, node)
	}
	fd.mu.Lock()
	err := f(fd)
	fd.mu.Unlock()
	if !ok && err == nil {
		h.feeds[node] = fd
		h.wg.Go(func() { fd.run(h.ctx) })
	}
	return err
}

// close forgets a feed that nobody needs, and reports whether it did.
func (h *Hub) close(fd *feed) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.needed() && !h.ended {
		return false
	}
	delete(h.feeds, fd.node)
	return true
}

// IsOpen reports whether the console of a node is open now.
func (h *Hub) IsOpen(node fleet.NodeID) bool {
	h.mu.Lock()
	fd := h.feeds[node]
	h.mu.Unlock()
	if fd == nil {
		return false
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	return fd.port != nil
}

// Record has the console of a node open and recorded from now on, or no longer.
func (h *Hub) Record(node fleet.NodeID, on bool) {
	if !on {
		h.mu.Lock()
		fd := h.feeds[node]
		h.mu.Unlock()
		if fd != nil {
			fd.setRecording(false)
		}
		return
	}
	err := h.with(node, func(fd *feed) error {
		fd.recording = true
		return nil
	})
	if err != nil {
		h.o.Log.Warn("console not recorded", "node", node, "err", err)
	}
}

// Mark says that a machine starts anew: what it writes from now on is a record
// of its own. A machine that was switched on asks the network for an address a
// while later, which is the same start.
func (h *Hub) Mark(node fleet.NodeID, start Start) {
	h.mu.Lock()
	fd := h.feeds[node]
	h.mu.Unlock()
	if fd != nil {
		fd.mark(start, time.Now())
	}
}

// A Start is what a record begins with.
type Start string

// The starts.
const (
	Switched Start = "power"        // we switched the machine on, or over
	Network  Start = "network boot" // its firmware asks for an address
	begun    Start = "recording began"
	further  Start = "the record before was full"
)

// LastLines are the last lines that a machine wrote, newest last, as far as its
// console was open: hostile text without control characters.
func (h *Hub) LastLines(node fleet.NodeID, most int) []string {
	h.mu.Lock()
	fd := h.feeds[node]
	h.mu.Unlock()
	if fd == nil {
		return nil
	}
	fd.mu.Lock()
	recent := fd.ring.bytes()
	fd.mu.Unlock()
	var lines []string
	for _, l := range Plain(mask(recent)) {
		if l != "" {
			lines = append(lines, l)
		}
	}
	return lines[max(0, len(lines)-most):]
}
