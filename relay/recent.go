package relay

import (
	"sync"
	"time"
)

const (
	answerTime = time.Minute // for an answer of the server's
	maxRecent  = 1 << 14     // machines that asked in that time
)

// recent remembers who asked lately, so that nobody is told what he did not ask
// for: whoever can forge the server's address could else speak to each machine.
// It keeps two generations of a bounded size, and when the newer one is full or
// old the older one is forgotten: who asked last is known for as long as so
// many others have not asked since.
type recent[K comparable] struct {
	now func() time.Time

	mu         sync.Mutex
	since      time.Time // of the newer one
	newer, old map[K]bool
}

func newRecent[K comparable](now func() time.Time) *recent[K] {
	return &recent[K]{now: now, since: now(), newer: map[K]bool{}}
}

func (r *recent[K]) add(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn()
	r.newer[k] = true
	if len(r.newer) >= maxRecent {
		r.old, r.newer, r.since = r.newer, map[K]bool{}, r.now()
	}
}

func (r *recent[K]) has(k K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn()
	return r.newer[k] || r.old[k]
}

// turn forgets what is old; the caller holds mu.
func (r *recent[K]) turn() {
	switch age := r.now().Sub(r.since); {
	case age < answerTime:
	case age < 2*answerTime:
		r.old, r.newer, r.since = r.newer, map[K]bool{}, r.now()
	default:
		r.old, r.newer, r.since = nil, map[K]bool{}, r.now()
	}
}
