// Package retry waits between attempts: from a fifth of a second up to five
// seconds, with jitter, so that a rack of agents does not knock in step.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	first = 200 * time.Millisecond
	last  = 5 * time.Second
)

// A Delay is how long to wait before the next attempt. Its zero value is
// ready for the first one.
type Delay struct {
	next time.Duration
}

// Next returns the time to wait now; it doubles from call to call. The
// jitter takes away up to half of it.
func (d *Delay) Next() time.Duration {
	d.next = min(max(2*d.next, first), last)
	return d.next/2 + rand.N(d.next/2) // jitter, no secret
}

// Reset makes the next attempt the first one again.
func (d *Delay) Reset() { d.next = 0 }

// Pause waits for that long, or until ctx is done; then it returns its error.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
