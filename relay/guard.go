package relay

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// What one machine may send: firmware sends four packets in a boot, and again
// each when it hears nothing.
const (
	macBurst = 20
	macRate  = 2 // per second
	maxMACs  = 1 << 14
)

// A guard is what the rules of both families have in common: whose answers are
// believed, and how much a machine may ask, by what it is known by. It keeps
// counters, rates, and who asked lately.
type guard[K comparable] struct {
	where   atomic.Pointer[netip.AddrPort] // the server, see [guard.server]
	chained bool                           // other relays behind us are believed
	rates   *throttle.Throttle[K]
	asked   *recent[K] // whom an answer may be for
	stats   *stats
}

func (g *guard[K]) begin(server netip.AddrPort, chained bool, now func() time.Time, st *stats) {
	g.where.Store(&server)
	g.chained, g.stats = chained, st
	g.rates, g.asked = throttle.New[K](maxMACs, macBurst, macRate, now), newRecent[K](now)
}

// server is where packets go, and where answers come from. It is invalid when
// the server has no address of this family: nothing is relayed then.
func (g *guard[K]) server() netip.AddrPort { return *g.where.Load() }

// moved notes where the server is, and reports whether that is somewhere else.
func (g *guard[K]) moved(to netip.AddrPort) bool { return *g.where.Swap(&to) != to }

// refuse counts a packet that goes no further.
func (g *guard[K]) refuse(why *atomic.Int64) bool {
	why.Add(1)
	return false
}

// mayAsk reports whether a machine has not asked too much.
func (g *guard[K]) mayAsk(who K) bool { return g.rates.Allow(who) || g.refuse(&g.stats.rate) }

// isServer reports whether a packet is from the server, by its address: whatever
// else comes is none of ours.
func (g *guard[K]) isServer(from netip.AddrPort) bool {
	return from == g.server() || g.refuse(&g.stats.stranger)
}

// hasAsked reports whether an answer is for a machine that asked: the server
// would not speak first.
func (g *guard[K]) hasAsked(who K) bool { return g.asked.has(who) || g.refuse(&g.stats.stranger) }

// A delivery is an answer on its way to a machine, or to a relay behind us.
type delivery[P ~[]byte] struct {
	packet P
	to     netip.AddrPort
	port   port
}

// stats are counters since the start.
type stats struct {
	requests, relayed, replied, away, bootp                        atomic.Int64
	malformed, looped, foreignInfo, rate, stranger, unsent, panics atomic.Int64
}

// refused is how many packets of machines were dropped.
func (s *stats) refused() int64 {
	return s.malformed.Load() + s.looped.Load() + s.foreignInfo.Load() + s.rate.Load()
}
