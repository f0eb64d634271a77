package relay

import (
	"bytes"
	"net/netip"
)

// Messages with which a machine gives an address back, because it wants it no
// more or because another machine answers there; and those of IPv6 with which it
// asks for one.
const (
	typeDecline = 4
	typeRelease = 7

	typeRequest6 = 3
	typeRenew6   = 5
	typeRebind6  = 6
	typeRelease6 = 8
	typeDecline6 = 9
)

// watch looks at what a machine says of an address that was confirmed to it and
// is not handed over yet. One that it gives back is handed over with that.
func (r *Relay) watch(p packet) {
	about := p.addr(atCIAddr)
	if v, ok := p.find(optionRequested); ok && len(v) == 4 && !about.IsValid() {
		about = netip.AddrFrom4([4]byte(v))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.granted[about]
	if !ok || g.who != hardware(p.mac()) {
		return
	}
	switch p.kind() {
	case typeRelease, typeDecline:
		r.givenBack(about, p)
	case typeRequest:
		r.wantedAgain(about)
	}
}

// watch6 does so for IPv6. The addresses are inside of associations, which a
// relay does not read: one that occurs is meant.
func (r *Relay) watch6(p packet6, from netip.Addr) {
	if p.kind() < typeRequest6 || p.kind() > typeDecline6 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for addr, g := range r.granted {
		if g.who != from.String() || !bytes.Contains(p, addr.AsSlice()) {
			continue
		}
		switch p.kind() {
		case typeRelease6, typeDecline6:
			r.givenBack(addr, p)
		case typeRequest6, typeRenew6, typeRebind6:
			r.wantedAgain(addr)
		}
	}
}

// givenBack notes the packet with which a machine gave an address back. The
// server shall hear that it was confirmed, and of that, in this order: whether
// the machine may, it knows better than we do. The caller holds mu.
func (r *Relay) givenBack(addr netip.Addr, packet []byte) {
	g := r.granted[addr]
	g.end, g.told = bytes.Clone(packet), 0
	r.granted[addr], r.rounds = g, 0
}

// wantedAgain forgets that a machine gave an address back: it asks the server
// itself for it. The caller holds mu.
func (r *Relay) wantedAgain(addr netip.Addr) {
	if r.granted[addr].end != nil && !r.away.Load() {
		delete(r.granted, addr)
	}
}

// handBack tells the server that an address was given back.
func (r *Relay) handBack(six *socket6, addr netip.Addr, g grant, p port, link netip.Addr) {
	if addr.Is6() {
		ask := packet6(bytes.Clone(g.end))
		ask.setXID(r.newTransaction(g.who, question{addr, true}))
		r.toServer6(six, ask, netip.MustParseAddr(g.who), p, link)
		return
	}
	if out, ok := r.rules.up(g.end, p); ok {
		r.toServer(r.socket, out, p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, ok := r.granted[addr]
	if !ok || now.end == nil {
		return
	}
	if now.told++; now.told >= handTries { // nobody answers it
		delete(r.granted, addr)
		return
	}
	r.granted[addr] = now
}
