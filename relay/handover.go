package relay

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
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

// asked is a request of our own, for an address that we confirmed.
type asked struct {
	mac  fleet.MAC
	addr netip.Addr
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
	before, s := len(r.granted), r.socket
	r.mu.Unlock()
	if s == nil || before == 0 {
		return
	}
	left := before
	for try := 0; try < handTries && left > 0; try++ {
		left = r.handRound(ctx, s)
	}
	r.o.Log.InfoContext(ctx, "leases handed over", "count", before-left, "unanswered", left)
}

// handRound asks once for each address that has no answer yet, and says how
// many there are then.
func (r *Relay) handRound(ctx context.Context, s *socket) (left int) {
	r.mu.Lock()
	granted := maps.Clone(r.granted)
	r.mu.Unlock()
	tick := time.NewTicker(handEvery)
	defer tick.Stop()
	n := 0
	for mac, addr := range granted {
		if n++; n%handAtOnce == 0 && !wait(ctx, tick) {
			break
		}
		r.handOne(s, mac, addr)
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

func (r *Relay) handOne(s *socket, mac fleet.MAC, addr netip.Addr) {
	for _, p := range r.ports() {
		if !p.addr.Contains(addr) {
			continue
		}
		ask := request([6]byte(mac.Hardware()), addr, p.addr.Addr(), r.newTransaction(mac, addr))
		if out, ok := r.rules.up(ask, p); ok {
			r.toServer(s, out, p)
		}
		return
	}
	r.mu.Lock()
	delete(r.granted, mac) // the port has another network by now
	r.mu.Unlock()
}

func (r *Relay) newTransaction(mac fleet.MAC, addr netip.Addr) uint32 {
	xid := rand.Uint32() //nolint:gosec // tells packets apart, no secret
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) >= maxAsked {
		clear(r.asked)
	}
	r.asked[xid] = asked{mac, addr}
	return xid
}

// ownTransaction reports whether a reply is to a packet of ours, once. Then the
// server knows of the address: it has confirmed it, or says that it cannot.
func (r *Relay) ownTransaction(p packet) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.asked[p.xid()]
	if !ok || a.mac != fleet.MAC(hardware(p.mac())) {
		return false
	}
	delete(r.asked, p.xid())
	if r.granted[a.mac] == a.addr {
		delete(r.granted, a.mac)
	}
	return true
}
