package access

import (
	"net/netip"
	"sync"
	"time"
)

// limitWindow is how long a failure counts.
const limitWindow = time.Minute

// A limiter counts failures by key over the last window. It forgets by
// itself: nothing is ever locked for good.
type limiter struct {
	mu       sync.Mutex
	max      int // failures in a window
	keys     int // that are kept at most
	failures map[string][]time.Time
}

func newLimiter(maxFailures, keys int) *limiter {
	return &limiter{max: maxFailures, keys: keys, failures: map[string][]time.Time{}}
}

// begin counts an attempt as a failure before it is made, so that a hundred
// at the same time are not more than ten one after the other. It returns how
// long to wait when there were too many; otherwise undo takes the failure
// back.
func (l *limiter) begin(now time.Time, keys ...string) (undo func(), wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		recent := l.recent(now, key)
		if len(recent) >= l.max {
			wait = max(wait, recent[len(recent)-l.max].Add(limitWindow).Sub(now))
		}
	}
	if wait > 0 {
		return nil, wait
	}
	for _, key := range keys {
		l.makeRoom(now)
		l.failures[key] = append(l.failures[key], now)
	}
	return func() { l.undo(now, keys) }, 0
}

func (l *limiter) undo(at time.Time, keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		for i, t := range l.failures[key] {
			if t.Equal(at) {
				l.failures[key] = append(l.failures[key][:i:i], l.failures[key][i+1:]...)
				break
			}
		}
		if len(l.failures[key]) == 0 {
			delete(l.failures, key)
		}
	}
}

func (l *limiter) recent(now time.Time, key string) []time.Time {
	times := l.failures[key]
	for len(times) > 0 && now.Sub(times[0]) >= limitWindow {
		times = times[1:]
	}
	if len(times) == 0 {
		delete(l.failures, key)
		return nil
	}
	l.failures[key] = times
	return times
}

// makeRoom keeps an attacker with many names and addresses from filling the
// memory. What is forgotten first is what is over; else any.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.failures) < l.keys {
		return
	}
	for key := range l.failures {
		l.recent(now, key)
	}
	for key := range l.failures {
		if len(l.failures) < l.keys {
			return
		}
		delete(l.failures, key)
	}
}

// addrKey is who is counted as one: an IPv4 address, or an IPv6 network of
// the size that one customer gets.
func addrKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return "addr " + p.String()
		}
	}
	return "addr " + a.String()
}
