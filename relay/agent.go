package relay

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
)

// relayDHCP carries DHCP packets until ctx is done.
func (r *Relay) relayDHCP(ctx context.Context, s *socket) error {
	return carryDHCP(ctx, s.read, r.safely(func(m message) { r.pass(s, m) }))
}

// carryDHCP passes packets of either family on as they come, until ctx is done.
func carryDHCP(ctx context.Context, read func([]byte) (message, error), pass func(message)) error {
	buf := make([]byte, 2048)
	for {
		m, err := read(buf)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // we closed it
		case err != nil:
			return fmt.Errorf("read DHCP packets: %w", err)
		}
		pass(m)
	}
}

// safely is the boundary that no packet crosses: whatever it does to us, the
// next one is carried.
func (r *Relay) safely(pass func(message)) func(message) {
	return func(m message) {
		defer func() {
			if p := recover(); p != nil {
				r.stats.panics.Add(1)
				r.o.Log.Error("dhcp packet made us panic", "panic", p, "packet", fmt.Sprintf("%x", m.packet), "stack", string(debug.Stack()))
			}
		}()
		pass(m)
	}
}

// sent counts a packet that could not be sent.
func (r *Relay) sent(err error) bool {
	if err != nil {
		r.stats.unsent.Add(1)
		r.o.Log.Debug("dhcp packet not passed on", "err", err)
	}
	return err == nil
}

// pass decides what one packet is, by the way that it came.
func (r *Relay) pass(s *socket, m message) {
	p := packet(m.packet)
	if len(p) < atCookie {
		r.stats.malformed.Add(1)
		return
	}
	from, ours := r.portByIndex(m.index)
	switch op := p.op(); {
	case op == bootRequest && ours && from.addr.IsValid():
		r.fromMachine(s, m, from)
	case op == bootReply:
		r.fromServer(s, m)
	case op == bootRequest: // on the server's side: none of our machines
	default:
		r.stats.malformed.Add(1)
	}
}

func (r *Relay) isOurs(a netip.Addr) bool { _, ok := r.portByAddr(a); return ok }

func (r *Relay) fromMachine(s *socket, m message, from port) {
	if !r.rules.admit(m.packet, r.isOurs) {
		return
	}
	r.watch(m.packet)
	if r.away.Load() {
		r.standIn(s, m)
		return
	}
	if out, ok := r.rules.up(m.packet, from); ok {
		r.toServer(s, out, from)
	}
}

func (r *Relay) toServer(s *socket, p packet, from port) {
	if r.sent(s.send(p, r.rules.server(), from.addr.Addr(), 0)) {
		r.stats.relayed.Add(1)
	}
}

func (r *Relay) fromServer(s *socket, m message) {
	d, ok := r.rules.down(m.packet, m.from, r.portByAddr)
	if !ok || r.ownTransaction(transaction{hardware(d.packet.mac()), d.packet.xid()}) {
		return
	}
	r.sent(s.send(d.packet, d.to, d.port.addr.Addr(), d.port.index))
}

// standIn answers in the place of a server that is away: nodes that are known
// get the address that they have.
func (r *Relay) standIn(s *socket, m message) {
	k := r.known.Load()
	if k == nil || r.removed.Load() || packet(m.packet).giaddr().IsValid() {
		return // whoever is behind another relay has to wait
	}
	a, ok := k.stand.Answer(m.packet, m.index, m.from, m.to)
	if !ok {
		return
	}
	if a.Leased.IsValid() {
		r.grant(a.Leased, grant{who: hardware(packet(m.packet).mac())})
	}
	if r.sent(s.send(a.Packet, a.To, a.From, a.Index)) {
		r.stats.away.Add(1)
	}
}

func hardware(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}
