package engine

import (
	"context"
	"sync"

	"github.com/rackstage/provision/fleet"
)

// A bus hands events to whoever watches live.
type bus struct {
	mu     sync.Mutex
	subs   map[chan fleet.Event]bool
	closed bool
}

func newBus() *bus { return &bus{subs: map[chan fleet.Event]bool{}} }

// publish never waits: a reader whose buffer is full is dropped, and sees
// that its channel is closed.
func (b *bus) publish(events ...fleet.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ev := range events {
		for ch := range b.subs {
			select {
			case ch <- ev:
			default:
				delete(b.subs, ch)
				close(ch)
			}
		}
	}
}

func (b *bus) subscribe() (<-chan fleet.Event, func()) {
	ch := make(chan fleet.Event, 256)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(ch)
		return ch, func() {}
	}
	b.subs[ch] = true
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.subs[ch] {
			delete(b.subs, ch)
			close(ch)
		}
	}
}

func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for ch := range b.subs {
		delete(b.subs, ch)
		close(ch)
	}
}

// Subscribe returns a channel of events from now on, and a function that ends
// it. A reader that is too slow finds its channel closed. Events with Seq 0
// (progress) are not stored.
func (e *Engine) Subscribe() (<-chan fleet.Event, func()) { return e.bus.subscribe() }

// Events returns up to limit stored events after since, oldest first.
func (e *Engine) Events(ctx context.Context, since int64, limit int) ([]fleet.Event, error) {
	return e.Store.Events(ctx, since, limit)
}
