package dhcp

import (
	"context"
	"net/netip"
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

	reply   reply  // the offer; leaves when nobody answers
	packet  []byte // what the client asked, to ask it again when somebody does
	arrival arrival
	tries   int // other addresses that were taken

	began time.Time
	sent  int
}

// A prober asks addresses whether somebody is there: by ARP where we are on
// the same wire, else by ICMP echo.
type prober struct {
	s       *Server
	out     *socket // that offers leave by
	wire    *wire
	waiting chan *probe // offers

	mu   sync.Mutex
	room float64
	at   time.Time
}

func newProber(s *Server, out *socket, w *wire) *prober {
	return &prober{s: s, out: out, wire: w, waiting: make(chan *probe, probeBurst), room: probeBurst}
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

// add takes an offer over. When too many wait it leaves at once.
func (p *prober) add(r reply, packet []byte, a arrival, tries int) {
	w := *r.probe
	r.probe = nil
	w.reply, w.packet, w.arrival, w.tries = r, append([]byte(nil), packet...), a, tries
	select {
	case p.waiting <- &w:
	default:
		p.s.stats.probeSkipped.Add(1)
		p.s.send(p.out, []reply{w.reply})
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
		_, _, ok := p.s.ifaces.near(n.CIDR.Addr())
		return ok
	}
	for _, w := range p.s.book.restock(near) {
		p.ask(asked, &w)
	}
}

// ask begins to ask. An address that is asked already is not asked twice.
func (p *prober) ask(asked map[netip.Addr][]*probe, w *probe) {
	w.began = time.Now()
	first := len(asked[w.addr]) == 0
	asked[w.addr] = append(asked[w.addr], w)
	if first {
		p.s.stats.probes.Add(1)
		p.send(w)
	}
}

func (p *prober) send(w *probe) {
	w.sent++
	index, card, near := p.s.ifaces.near(w.addr)
	p.wire.ask(w.addr, index, card, near)
}

// turn asks again where nobody has answered yet, and lets go what has waited
// long enough.
func (p *prober) turn(asked map[netip.Addr][]*probe) {
	now := time.Now()
	var out []reply
	for a, all := range asked {
		first := all[0]
		waited := now.Sub(first.began)
		if first.sent < probeTries && waited >= time.Duration(first.sent)*probeEvery {
			p.send(first)
		}
		if waited < probeWait {
			continue
		}
		delete(asked, a)
		p.s.book.proven(a)
		for _, w := range all {
			if w.reply.packet != nil {
				out = append(out, w.reply)
			}
		}
	}
	if len(out) > 0 {
		p.s.send(p.out, out)
	}
}

// A voice is somebody who answered.
type voice struct {
	addr netip.Addr
	card string
}

// conflict puts an address aside where somebody is, and finds another for the
// clients that were to have it.
func (p *prober) conflict(asked map[netip.Addr][]*probe, v voice) {
	all := asked[v.addr]
	if len(all) == 0 {
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
		if w.reply.packet == nil || w.tries >= probeAgain {
			continue
		}
		sc := new(scene)
		if r, ok := p.s.handle(sc, w.packet, w.arrival); ok && r.probe != nil {
			p.add(r, w.packet, w.arrival, w.tries+1)
		} else if ok && r.packet != nil {
			p.s.send(p.out, []reply{r})
		}
	}
}
