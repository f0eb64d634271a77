package relay

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Of what was confirmed while the server was away, so much is handed over at
// once: the server stores each before it answers.
const (
	handAtOnce = 64
	handEvery  = 50 * time.Millisecond
	handTries  = 3   // for packets that vanish
	handRounds = 300 // without an answer; what was confirmed has expired by then
	maxAsked   = 1 << 16
)

// A grant is an address that was confirmed while the server was away: to whom,
// by MAC address or, of IPv6, by the address that it asked from, and how.
type grant struct {
	who string
	ask packet6 // of IPv6: by its identifier it is known

	end    []byte // with this the machine gave it back since, see [Relay.watch]
	stored bool   // the server knows of it, but not of the end
	told   int    // how often the end was said to it
}

// A transaction is a request of our own, in whose name it is and its number.
type transaction struct {
	who string
	xid uint32
}

// A question is what such a request is about.
type question struct {
	addr netip.Addr
	end  bool // it gives the address back
}

// grant notes an address that was confirmed.
func (r *Relay) grant(addr netip.Addr, g grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.granted[addr] = g
	r.rounds = 0
}

// handOver tells the server, now that it is back, which addresses were
// confirmed in its absence: it gets each client's request for its address once
// more, and confirms it itself. So it has them in its own leases before
// anybody else can be given them. The clients do not hear of it. What it does
// not answer is kept, and asked for again with the next word to the server.
func (r *Relay) handOver(ctx context.Context) {
	r.mu.Lock()
	if r.rounds++; r.rounds > handRounds {
		clear(r.granted)
	}
	before := len(r.granted)
	r.mu.Unlock()
	if r.socket == nil || before == 0 {
		return
	}
	left := before
	for try := 0; try < handTries && left > 0; try++ {
		left = r.handRound(ctx)
	}
	r.o.Log.InfoContext(ctx, "leases handed over", "count", before-left, "unanswered", left)
}

// handRound asks once for each address that has no answer yet, and says how
// many there are then.
func (r *Relay) handRound(ctx context.Context) (left int) {
	r.mu.Lock()
	granted := slices.Collect(maps.Keys(r.granted))
	r.mu.Unlock()
	tick := time.NewTicker(handEvery)
	defer tick.Stop()
	n := 0
	for _, addr := range granted {
		if n++; n%handAtOnce == 0 && !wait(ctx, tick) {
			break
		}
		r.handOne(addr)
	}
	for range 10 { // for the last answers
		r.mu.Lock()
		left = len(r.granted)
		r.mu.Unlock()
		if left == 0 || !wait(ctx, tick) {
			break
		}
	}
	return left
}

func wait(ctx context.Context, tick *time.Ticker) bool {
	select {
	case <-tick.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Relay) handOne(addr netip.Addr) {
	r.mu.Lock()
	g, left := r.granted[addr]
	six := r.socket6
	r.mu.Unlock()
	if !left {
		return // the machine asks the server itself
	}
	for _, p := range r.ports() {
		link, served := r.linkOf(p)
		mine := addr.Is4() && p.addr.Contains(addr) || served && p.near(addr) && six != nil
		switch {
		case mine && g.stored:
			r.handBack(six, addr, g, p, link)
			return
		case addr.Is4() && p.addr.Contains(addr):
			ask := request([6]byte(fleet.MAC(g.who).Hardware()), addr, p.addr.Addr(), r.newTransaction(g.who, question{addr: addr}))
			if out, ok := r.rules.up(ask, p); ok {
				r.toServer(r.socket, out, p)
			}
			return
		case served && p.near(addr) && six != nil:
			g.ask.setXID(r.newTransaction(g.who, question{addr: addr}))
			r.toServer6(six, g.ask, netip.MustParseAddr(g.who), p, link)
			return
		}
	}
	r.mu.Lock()
	delete(r.granted, addr) // the port has another network by now
	r.mu.Unlock()
}

// newTransaction returns a number for a request of our own. Of IPv6 it has
// three bytes.
func (r *Relay) newTransaction(who string, about question) uint32 {
	xid := rand.Uint32() >> 8 //nolint:gosec // tells packets apart, no secret
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) >= maxAsked {
		clear(r.asked)
	}
	r.asked[transaction{who, xid}] = about
	return xid
}

// ownTransaction reports whether a reply is to a packet of ours, once. Then the
// server knows of the address: it has confirmed it, or says that it cannot.
func (r *Relay) ownTransaction(t transaction) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	about, ok := r.asked[t]
	if !ok {
		return false
	}
	delete(r.asked, t)
	g, left := r.granted[about.addr]
	switch given := g.end != nil; {
	case !left, about.end && !given: // it has it again
	case about.end == given:
		delete(r.granted, about.addr)
	default:
		g.stored = true
		r.granted[about.addr] = g
	}
	return true
}
