package tftp

import (
	"net/netip"
	"sync"
	"time"
)

// A gate counts transfers in and out, and keeps one source, and all together,
// from holding more than we can afford, or asking more often.
//
// What is over a limit is dropped without a word: the client asks again in a
// second or so, and by then there may be room.
type gate struct {
	perSource, total int
	perSecond        float64

	mu      sync.Mutex
	running int
	sources map[netip.Addr]*source
}

type source struct {
	running int
	tokens  float64 // requests that it may make now
	at      time.Time
}

// mostSources bounds what is remembered of those that hold nothing.
const mostSources = 1 << 16

// A verdict says whether a request may go on, or why not.
type verdict int

const (
	admitted verdict = iota
	tooMany          // transfers of one source
	tooOften         // requests of one source
	allInUse         // transfers of everybody
)

func newGate(o Options) *gate {
	return &gate{
		perSource: o.MaxPerSource, total: o.MaxTransfers, perSecond: float64(o.MaxPerSecond),
		sources: make(map[netip.Addr]*source),
	}
}

// enter counts a transfer in, if it is within the limits.
func (g *gate) enter(client netip.Addr, now time.Time) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[client]
	if s == nil {
		if len(g.sources) >= mostSources {
			g.forget()
		}
		s = &source{tokens: 2 * g.perSecond, at: now}
		g.sources[client] = s
	}
	s.tokens = min(2*g.perSecond, s.tokens+now.Sub(s.at).Seconds()*g.perSecond)
	s.at = now
	switch {
	case s.tokens < 1:
		return tooOften
	case s.running >= g.perSource:
		return tooMany
	case g.running >= g.total:
		return allInUse
	}
	s.tokens--
	s.running++
	g.running++
	return admitted
}

// leave counts a transfer out.
func (g *gate) leave(client netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if s := g.sources[client]; s != nil {
		s.running--
	}
}

// forget drops what is known of sources that hold nothing. It is called with
// the lock held.
func (g *gate) forget() {
	for a, s := range g.sources {
		if s.running == 0 {
			delete(g.sources, a)
		}
	}
}
