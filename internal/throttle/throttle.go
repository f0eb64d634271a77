// Package throttle keeps one peer from costing the others: a rate for acts and
// a count of connections, for each peer and with bounded memory.
package throttle

import (
	"sync"
	"time"
)

// A Throttle allows each key, such as an address, a burst of acts and then a
// steady rate. It remembers a bounded number of keys: when it is full of
// others, a new one shares the common bucket, that of the zero key.
type Throttle[K comparable] struct {
	burst float64
	rate  float64 // per second
	size  int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[K]*bucket
	swept   time.Time
}

type bucket struct {
	level float64
	at    time.Time
}

// New returns a throttle of at most size keys.
func New[K comparable](size, burst int, perSecond float64, now func() time.Time) *Throttle[K] {
	return &Throttle[K]{burst: float64(burst), rate: perSecond, size: size, now: now, buckets: map[K]*bucket{}}
}

// Allow reports whether a key may act now.
func (t *Throttle[K]) Allow(key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.buckets) >= t.size && now.Sub(t.swept).Abs() >= sweepEvery {
		t.forget(now)
	}
	if _, known := t.buckets[key]; !known && len(t.buckets) >= t.size {
		var shared K
		key = shared
	}
	b := t.buckets[key]
	if b == nil {
		b = &bucket{level: t.burst, at: now}
		t.buckets[key] = b
	}
	b.level = min(t.burst, b.level+t.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// sweepEvery is how often all keys are looked at, when there are many: not at
// each act of a flood.
const sweepEvery = time.Second

// forget drops the buckets that are full again.
func (t *Throttle[K]) forget(now time.Time) {
	t.swept = now
	for key, b := range t.buckets {
		if b.level+t.rate*now.Sub(b.at).Seconds() >= t.burst {
			delete(t.buckets, key)
		}
	}
}
