package dhcp

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	probeTries = 2
	probeEvery = 100 * time.Millisecond
	probeWait  = 250 * time.Millisecond // whoever is there answers within that
	probeAgain = 3                      // other addresses that a client is tried with

	// So many clients at once wait for a probe, and then so many a second: when
	// a whole site is switched on, an answer in time is worth more.
	probeBurst  = 64
	probeRate   = 20
	restockTick = time.Second
)

// A probe is an address that is asked whether somebody is there already
// (RFC 2131 §3.1 step 2), and the client that waits for it.
type probe struct {
	net  *network
	addr netip.Addr

	reply   reply  // the offer; leaves when nobody answers; without a packet the client is answered then
	packet  []byte // what the client asked; nil when no client waits
	arrival arrival
	tries   int // other addresses that were taken

	began time.Time
	asked question
}

// A prober asks addresses whether somebody is there: by ARP where we are on
// the same wire, else by ICMP echo.
type prober struct {
	s       *Server
	leave   func([]reply) // lets answers go
	commit  *committer    // and those with a lease
	wire    *wire
	waiting chan *probe // offers

	mu   sync.Mutex
	room float64
	at   time.Time
}

func newProber(s *Server, leave func([]reply), c *committer, w *wire) *prober {
	return &prober{s: s, leave: leave, commit: c, wire: w, waiting: make(chan *probe, probeBurst), room: probeBurst}
}

// wants reports whether the offer of an address shall wait for a probe. A
// server that cannot ask has no prober.
func (p *prober) wants(n *network) bool {
	if p == nil || n.NoProbe {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.room = min(p.room+now.Sub(p.at).Seconds()*probeRate, probeBurst)
	p.at = now
	if p.room < 1 {
		p.s.stats.probeSkipped.Add(1)
		return false
	}
	p.room--
	return true
}

// add takes an answer over. When too many wait, an offer leaves at once, and
// who has to be answered later asks again.
func (p *prober) add(r reply, packet []byte, a arrival, tries int) {
	w := *r.probe
	r.probe = nil
	w.reply, w.packet, w.arrival, w.tries = r, append([]byte(nil), packet...), a, tries
	select {
	case p.waiting <- &w:
	default:
		p.s.stats.probeSkipped.Add(1)
		if w.reply.packet != nil {
			p.offer([]reply{w.reply})
		}
	}
}

// run asks until ctx is done.
func (p *prober) run(ctx context.Context) {
	asked := make(map[netip.Addr][]*probe)
	tick, restock := time.NewTicker(probeEvery/2), time.NewTicker(restockTick)
	defer tick.Stop()
	defer restock.Stop()
	p.restock(asked)
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-p.waiting:
			p.ask(asked, w)
		case heard := <-p.wire.heard:
			p.conflict(asked, heard)
		case <-restock.C:
			p.restock(asked)
		case <-tick.C:
			p.turn(asked)
		}
	}
}

// restock asks addresses ahead of the clients that will get them.
func (p *prober) restock(asked map[netip.Addr][]*probe) {
	near := func(n *network) bool {
		_, ok := p.s.links.Near(n.CIDR.Addr())
		return ok
	}
	for _, w := range p.s.book.restock(near) {
		p.ask(asked, &w)
	}
}

// ask begins to ask. An address that is asked already is not asked twice, and
// a client that repeats itself meanwhile is answered once.
func (p *prober) ask(asked map[netip.Addr][]*probe, w *probe) {
	w.began, w.asked = time.Now(), question{nonce: nonce(random(len(nonce{})))}
	all := asked[w.addr]
	if slices.ContainsFunc(all, w.repeats) {
		return
	}
	asked[w.addr] = append(all, w)
	if len(all) == 0 {
		p.s.stats.probes.Add(1)
		p.send(w)
	}
}

// repeats reports whether both wait for one client and one transaction.
func (w *probe) repeats(other *probe) bool {
	return w.packet != nil && other.packet != nil &&
		bytes.Equal(w.packet[atXID:atXID+4], other.packet[atXID:atXID+4]) &&
		bytes.Equal(w.packet[atHardware:atName], other.packet[atHardware:atName])
}

func (p *prober) send(w *probe) {
	w.asked.sent++
	l, _ := p.s.links.Near(w.addr)
	w.asked.index = l.Index
	p.wire.ask(w.addr, w.asked, l.Hardware)
}

// turn asks again where nobody has answered yet, and lets go what has waited
// long enough.
func (p *prober) turn(asked map[netip.Addr][]*probe) {
	now := time.Now()
	var out []reply
	for a, all := range asked {
		first := all[0]
		waited := now.Sub(first.began)
		if first.asked.sent < probeTries && waited >= time.Duration(first.asked.sent)*probeEvery {
			p.send(first)
		}
		if waited < probeWait {
			continue
		}
		delete(asked, a)
		p.s.book.proven(a)
		for _, w := range all {
			switch {
			case w.reply.packet != nil:
				out = append(out, w.reply)
			case w.packet != nil:
				p.resume(w)
			}
		}
	}
	if len(out) > 0 {
		p.offer(out)
	}
}

// offer sends offers that waited.
func (p *prober) offer(out []reply) {
	p.s.stats.offers.Add(int64(len(out)))
	p.leave(out)
}

// resume answers a client from the beginning, now that more is known.
func (p *prober) resume(w *probe) {
	switch r, ok := p.s.react(new(scene), w.packet, w.arrival); {
	case !ok:
	case r.probe != nil:
		p.add(r, w.packet, w.arrival, w.tries+1)
	case r.lease.State != "":
		p.s.commit(p.commit, r)
	default:
		p.leave([]reply{r})
	}
}

// conflict puts an address aside where somebody is, and finds another for the
// clients that were to have it.
func (p *prober) conflict(asked map[netip.Addr][]*probe, v voice) {
	all := asked[v.addr]
	if len(all) == 0 {
		return
	}
	if !v.answers(all[0].asked) {
		if v.index == 0 {
			p.s.stats.probeForged.Add(1)
		}
		return
	}
	delete(asked, v.addr)
	if !p.s.book.quarantine(v.addr) {
		return
	}
	p.s.stats.conflicts.Add(1)
	detail := "somebody answers there"
	if v.card != "" {
		detail = v.card + " answers there"
	}
	p.s.alarms.Raise(fleet.CodeConflict, v.addr.String()+" on subnet "+all[0].net.Name, detail+", who has no lease of it")
	p.s.o.Log.Warn("address in use", "addr", v.addr, "card", v.card, "quarantine", quarantineTime)
	for _, w := range all {
		if w.packet != nil && w.tries < probeAgain {
			p.resume(w)
		}
	}
}
