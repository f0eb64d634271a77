// Package alarm passes alarms on that packets raise: a million packets raise
// one no more often than a few, and it ends with its cause.
package alarm

import (
	"sync"
	"time"
)

const (
	// Every is how often an alarm is passed on at most.
	Every = 10 * time.Second

	// Room is how many of one code stand at most. Who makes up a thousand
	// relays does not keep a full pool from being told.
	Room = 64
)

// A Sink is told of alarms.
type Sink interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// A Board is the alarms that stand.
type Board struct {
	to    Sink
	now   func() time.Time
	quiet time.Duration

	mu       sync.Mutex
	standing map[key]times
	kinds    map[string]int // how many stand, by code
}

type key struct{ code, on string }

type times struct{ seen, told time.Time }

// New returns a board without alarms. One whose cause was not seen for as long
// as quiet is over.
func New(to Sink, now func() time.Time, quiet time.Duration) *Board {
	return &Board{to: to, now: now, quiet: quiet, standing: make(map[key]times), kinds: make(map[string]int)}
}

// Raise says that the cause of an alarm was seen.
func (b *Board) Raise(code, on, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, k := b.now(), key{code, on}
	t, stands := b.standing[k]
	if !stands {
		if b.kinds[code] >= Room {
			return
		}
		b.kinds[code]++
	}
	t.seen = now
	if !stands || now.Sub(t.told) >= Every {
		t.told = now
		b.to.Raise(code, on, detail)
	}
	b.standing[k] = t
}

// Clear says that the cause of an alarm is over for sure.
func (b *Board) Clear(code, on string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := (key{code, on}); !b.standing[k].seen.IsZero() {
		b.clear(k)
	}
}

// ClearIf clears the alarms of a code whose cause is over.
func (b *Board) ClearIf(code string, over func(on string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.standing {
		if k.code == code && over(k.on) {
			b.clear(k)
		}
	}
}

// Expire clears the alarms whose cause was not seen for long.
func (b *Board) Expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for k, t := range b.standing {
		if now.Sub(t.seen) >= b.quiet {
			b.clear(k)
		}
	}
}

// clear takes an alarm down that stands; the caller holds mu.
func (b *Board) clear(k key) {
	delete(b.standing, k)
	if b.kinds[k.code]--; b.kinds[k.code] == 0 {
		delete(b.kinds, k.code)
	}
	b.to.Clear(k.code, k.on)
}
