package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/dhcp/links"
)

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

const (
	minPoll      = time.Second
	foreignLeast = 10 * time.Minute // a foreign router is believed to be there so long after its last word, at least

	// Answers per interface and second. RFC 4861 §6.2.6 has one in three
	// seconds for answers to all, which a rack of firmware would wait for.
	maxAnswers = 100
)

// A wire is what we know of the routers on one link.
type wire struct {
	next    time.Time // our next unasked advertisement
	foreign time.Time // somebody else advertises, until then
	window  time.Time // start of the second that answers are counted in
	answers int
}

// A router speaks ICMPv6 on our links.
type router struct {
	s      *Server
	p      *ipv6.PacketConn
	joined groups
	wires  map[int]*wire
}

// route answers Router Solicitations and advertises, as far as we have
// something to say, until ctx is done or it cannot.
func (s *Server) route(ctx context.Context) error {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("hear router solicitations, which iPXE waits for: %w", err)
	}
	defer conn.Close()
	r := &router{s: s, p: conn.IPv6PacketConn(), joined: groups{}, wires: make(map[int]*wire)}
	if err := r.prepare(); err != nil {
		return fmt.Errorf("prepare for router solicitations: %w", err)
	}
	s.up(nameRouter)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // wake the reader
	defer stop()
	defer r.resign()
	buf := make([]byte, 1500)
	for {
		r.tick(s.o.Now())
		if err := r.p.SetReadDeadline(time.Now().Add(minPoll)); err != nil {
			return fmt.Errorf("read router solicitations: %w", err)
		}
		if ctx.Err() != nil {
			return nil // before it could wake us
		}
		n, cm, from, err := r.p.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return fmt.Errorf("read router solicitations: %w", err)
		// A packet from another network has lost at least one hop (RFC 4861 §6.1).
		case cm != nil && cm.HopLimit == 255 && n >= 4:
			r.hear(buf[:n], cm.IfIndex, from, s.o.Now())
		}
	}
}

func (r *router) prepare() error {
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	only.Accept(ipv6.ICMPTypeRouterAdvertisement)
	return errors.Join(
		r.p.SetICMPFilter(&only),
		r.p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		r.p.SetMulticastLoopback(false),
	)
}

// tick follows the interfaces and sends what is due. On links that are served
// for IPv4 only, nothing is sent unasked.
func (r *router) tick(now time.Time) {
	wanted := make(map[int]bool)
	for _, l := range r.s.links.All() {
		a, courtesy, ok := advertisementFor(l, r.s.declared())
		if !ok || !l.Local.IsValid() {
			continue
		}
		wanted[l.Index] = true
		if w := r.wire(l.Index); !courtesy && !now.Before(w.next) {
			w.next = now.Add(advertiseEvery)
			r.send(l, a, &net.IPAddr{IP: allNodes.AsSlice()})
		}
	}
	r.joined.follow(r.p, wanted, allRouters)
	for index := range r.wires {
		if !wanted[index] {
			delete(r.wires, index)
		}
	}
}

func (r *router) wire(index int) *wire {
	w := r.wires[index]
	if w == nil {
		w = &wire{}
		r.wires[index] = w
	}
	return w
}

// resign says that we are no router any more, where we were the default one
// (RFC 4861 §6.2.5): hosts take another at once, not in half an hour.
func (r *router) resign() {
	for _, l := range r.s.links.All() {
		a, _, ok := advertisementFor(l, r.s.declared())
		if ok && a.lifetime > 0 && l.Local.IsValid() {
			a.lifetime = 0
			r.send(l, a, &net.IPAddr{IP: allNodes.AsSlice()})
		}
	}
}

// hear takes a message of a neighbour. It is the boundary that none crosses, as
// [Server.handle] is.
func (r *router) hear(b []byte, index int, from net.Addr, now time.Time) {
	defer func() {
		if p := recover(); p != nil {
			r.s.stats.panics.Add(1)
			r.s.o.Log.Error("icmpv6 packet made us panic", "panic", p, "packet", fmt.Sprintf("%x", b), "stack", string(debug.Stack()))
		}
	}()
	l, served := r.s.links.Get(index)
	if !served || !r.joined[index] {
		return
	}
	if ipv6.ICMPType(b[0]) == ipv6.ICMPTypeRouterAdvertisement {
		r.hearRouter(l, b[4:], from, now)
		return
	}
	r.solicited(l, from, now) // the socket lets nothing else through
}

// hearRouter notes that somebody else advertises: where we would do it as a
// courtesy only, we say nothing more.
func (r *router) hearRouter(l links.Link, body []byte, from net.Addr, now time.Time) {
	ip, ok := from.(*net.IPAddr)
	if !ok {
		return
	}
	addr := addrOf(ip.IP)
	life, ok := lifetimeOf(body)
	if !ok || addr == l.Local || !addr.IsLinkLocalUnicast() {
		return
	}
	r.s.stats.foreignRouters.Add(1)
	w := r.wire(l.Index)
	if now.After(w.foreign) {
		r.s.o.Log.Info("another router advertises", "iface", l.Name, "addr", addr)
	}
	w.foreign = now.Add(max(life, foreignLeast))
}

// solicited answers who asks for routers: straight, or to everybody when it
// has no address yet.
func (r *router) solicited(l links.Link, from net.Addr, now time.Time) {
	a, courtesy, ok := advertisementFor(l, r.s.declared())
	w := r.wire(l.Index)
	if !ok || courtesy && now.Before(w.foreign) {
		return
	}
	if now.Sub(w.window) >= time.Second {
		w.window, w.answers = now, 0
	}
	if w.answers++; w.answers > maxAnswers {
		r.s.stats.limited.Add(1)
		return
	}
	r.s.stats.solicitations.Add(1)
	to := &net.IPAddr{IP: allNodes.AsSlice()}
	if ip, ok := from.(*net.IPAddr); ok && !ip.IP.IsUnspecified() {
		to = ip
	}
	r.send(l, a, to)
}

func (r *router) send(l links.Link, a advertisement, to net.Addr) {
	m := icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: a.body()}}
	raw, err := m.Marshal(nil) // the kernel fills in the checksum
	if err == nil {
		_, err = r.p.WriteTo(raw, &ipv6.ControlMessage{HopLimit: 255, IfIndex: l.Index, Src: l.Local.AsSlice()}, to)
	}
	if err != nil {
		r.s.stats.sendError.Add(1)
		return
	}
	r.s.stats.advertisements.Add(1)
}
