package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// relayDHCP carries DHCP packets until ctx is done.
func (r *Relay) relayDHCP(ctx context.Context, s *socket) error {
	buf := make([]byte, 2048)
	for {
		m, err := s.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // we closed it
		case err != nil:
			return fmt.Errorf("read DHCP packets: %w", err)
		}
		r.pass(s, m)
	}
}

// pass decides what one packet is, by the way that it came.
func (r *Relay) pass(s *socket, m message) {
	if len(m.packet) < atOptions {
		r.stats.malformed.Add(1)
		return
	}
	from, ours := r.portByIndex(m.index)
	switch op := m.packet.op(); {
	case op == bootRequest && ours:
		r.fromMachine(s, m, from)
	case op == bootReply:
		r.fromServer(s, m)
	default:
		r.stats.stranger.Add(1) // a request that came from the server's side
	}
}

func (r *Relay) isOurs(a netip.Addr) bool { _, ok := r.portByAddr(a); return ok }

func (r *Relay) fromMachine(s *socket, m message, from port) {
	if !r.rules.admit(m.packet, r.isOurs) {
		return
	}
	if r.away.Load() {
		r.standIn(s, m)
		return
	}
	if out, ok := r.rules.up(m.packet, from); ok {
		r.toServer(s, out, from)
	}
}

func (r *Relay) toServer(s *socket, p packet, from port) {
	if err := s.send(p, r.rules.server, from.addr.Addr(), 0); err != nil {
		r.stats.unsent.Add(1)
		r.o.Log.Debug("dhcp packet not passed on", "err", err)
		return
	}
	r.stats.relayed.Add(1)
}

func (r *Relay) fromServer(s *socket, m message) {
	d, ok := r.rules.down(m.packet, m.from, r.portByAddr)
	if !ok || r.ownTransaction(d.packet.xid()) {
		return
	}
	if err := s.send(d.packet, d.to, d.port.addr.Addr(), d.port.index); err != nil {
		r.stats.unsent.Add(1)
	}
}

// standIn answers in the place of a server that is away: nodes that are known
// get the address that they have.
func (r *Relay) standIn(s *socket, m message) {
	k := r.known.Load()
	if k == nil || r.removed.Load() || m.packet.giaddr().IsValid() {
		return // whoever is behind another relay has to wait
	}
	a, ok := k.stand.Answer(m.packet, m.index, m.from, m.to)
	if !ok {
		return
	}
	if a.Leased.IsValid() {
		r.mu.Lock()
		r.granted[fleet.MAC(hardware(m.packet.mac()))] = a.Leased
		r.mu.Unlock()
	}
	if err := s.send(a.Packet, a.To, a.From, a.Index); err != nil {
		r.stats.unsent.Add(1)
		return
	}
	r.stats.away.Add(1)
}

func hardware(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}

// handOver tells the server, now that it is back, which addresses were
// confirmed in its absence: it gets each client's request for its address once
// more, and confirms it itself. So it has them in its own leases before
// anybody else can be given them. The clients do not hear of it.
func (r *Relay) handOver(ctx context.Context) {
	r.mu.Lock()
	granted := r.granted
	r.granted = map[fleet.MAC]netip.Addr{}
	s := r.socket
	r.mu.Unlock()
	if s == nil || len(granted) == 0 {
		return
	}
	for mac, addr := range granted {
		for _, p := range r.ports() {
			if !p.addr.Contains(addr) {
				continue
			}
			ask := request([6]byte(mac.Hardware()), addr, p.addr.Addr(), r.newTransaction())
			if out, ok := r.rules.up(ask, p); ok {
				r.toServer(s, out, p)
			}
			break
		}
	}
	r.o.Log.InfoContext(ctx, "leases handed over", "count", len(granted))
}

// maxAsked bounds the transactions of our own that are remembered.
const maxAsked = 1 << 16

func (r *Relay) newTransaction() uint32 {
	xid := rand.Uint32() //nolint:gosec // tells packets apart, no secret
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) >= maxAsked {
		clear(r.asked)
	}
	r.asked[xid] = struct{}{}
	return xid
}

// ownTransaction reports whether a reply is to a packet of ours, once.
func (r *Relay) ownTransaction(xid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.asked[xid]
	delete(r.asked, xid)
	return ok
}
