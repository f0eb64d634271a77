package console

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A Kind says what a message is.
type Kind int

// The kinds of messages.
const (
	Output  Kind = iota // Data: what the machine wrote, as it wrote it
	Notice              // Text: what happened to the console
	Writers             // Text: who has a keyboard now, "" for nobody
)

// A Message is something for a watcher.
type Message struct {
	Kind Kind
	Data []byte
	Text string
}

// A Watcher follows the console of a node.
type Watcher struct {
	feed     *feed
	who      string
	messages chan Message
	ready    chan struct{} // closed when told
	told     bool          // guarded by feed.mu, as is all below
	failed   error         // the console could not be opened
	gone     bool
	err      error
	writes   bool
}

// Limits of one console's watchers.
const (
	maxWatchers = 64
	maxBehind   = 512 // messages that a watcher has not taken yet; then he is dropped
)

// ErrSlow is told to a watcher who did not keep up.
var ErrSlow = errors.New("too slow: the machine writes faster than it is read")

// Watch follows the console of a node, which it opens if it is not open. It
// returns when it is, with what the machine wrote last.
func (h *Hub) Watch(ctx context.Context, node fleet.NodeID, who string, take bool) (w *Watcher, recent []byte, err error) {
	w = &Watcher{who: who, messages: make(chan Message, maxBehind), ready: make(chan struct{})}
	err = h.with(node, func(f *feed) error {
		if len(f.watchers) >= maxWatchers {
			return &fleet.Error{Kind: fleet.Conflict, Code: "E-CONSOLES", Op: "watch console", Err: errors.New("too many people watch it"), Hint: "close some of them"}
		}
		w.feed = f
		f.watchers[w] = struct{}{}
		f.take = f.take || take
		if f.port != nil {
			w.tell(nil)
		}
		recent = f.ring.bytes()
		f.nudge()
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
		w.Close()
		return nil, nil, context.Cause(ctx)
	case <-h.ctx.Done(): // nobody opens it any more
		w.Close()
		return nil, nil, errStopping()
	}
	if w.failed != nil {
		return nil, nil, w.failed
	}
	if others := w.writers(); others != "" {
		w.feed.tellOne(w, Message{Kind: Writers, Text: others})
	}
	return w, recent, nil
}

// tell says how the opening went; the caller holds the feed's mutex.
func (w *Watcher) tell(err error) {
	if w.told {
		return
	}
	w.told, w.failed = true, err
	close(w.ready)
}

// Messages are closed when the watching is over; then Err says why.
func (w *Watcher) Messages() <-chan Message { return w.messages }

// Err is why the watching is over; io.EOF when the console was closed.
func (w *Watcher) Err() error {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.err
}

// Close ends the watching.
func (w *Watcher) Close() {
	f := w.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(w, nil)
	f.nudge()
}

// remove takes a watcher off; the caller holds mu.
func (f *feed) remove(w *Watcher, err error) {
	if w.gone {
		return
	}
	w.gone, w.err = true, err
	delete(f.watchers, w)
	close(w.messages)
	if w.writes {
		w.writes = false
		f.announce()
	}
}

// send hands a message to a watcher, or drops one who does not keep up; the
// caller holds mu.
func (f *feed) send(w *Watcher, m Message) {
	if w.gone {
		return
	}
	select {
	case w.messages <- m:
	default:
		f.remove(w, ErrSlow)
	}
}

func (f *feed) tellOne(w *Watcher, m Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.send(w, m)
}

// writers are those with a keyboard.
func (w *Watcher) writers() string {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.feed.writers()
}

func (f *feed) writers() string {
	var names []string
	for w := range f.watchers {
		if w.writes {
			names = append(names, w.who)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// announce tells everybody who has a keyboard; the caller holds mu.
func (f *feed) announce() {
	names := f.writers()
	for w := range f.watchers {
		if w.told {
			f.send(w, Message{Kind: Writers, Text: names})
		}
	}
}

// Keyboard takes the keyboard, beside others who may have it, or lets go of it.
// Everybody is told.
func (w *Watcher) Keyboard(on bool) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	if w.gone || w.writes == on {
		return
	}
	w.writes = on
	w.feed.announce()
}

var errNoKeyboard = errors.New("you do not have the keyboard")

// port returns the console for somebody with a keyboard.
func (w *Watcher) port() (Port, error) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	switch {
	case !w.writes:
		return nil, &fleet.Error{Kind: fleet.Denied, Code: "E-CONSOLE-KEYBOARD", Op: "type", Err: errNoKeyboard, Hint: "take it first"}
	case w.feed.port == nil:
		return nil, &fleet.Error{Kind: fleet.Unreachable, Code: "E-CONSOLE-LOST", Op: "type", Err: errors.New("the console is not open now"), Hint: "wait until it is open again"}
	}
	return w.feed.port, nil
}

// Type types on the machine's keyboard. It is written down nowhere.
func (w *Watcher) Type(keys []byte) error {
	p, err := w.port()
	if err == nil {
		_, err = p.Write(keys)
	}
	return err
}

// Break holds the line.
func (w *Watcher) Break() error {
	p, err := w.port()
	if err == nil {
		err = p.Break()
	}
	return err
}
