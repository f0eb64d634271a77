package http

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A throttle allows each address a burst of acts and then a steady rate. It
// remembers a bounded number of addresses: when it is full of others, a new
// one shares the common bucket.
type throttle struct {
	burst float64
	rate  float64 // per second
	size  int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[netip.Addr]*bucket
}

type bucket struct {
	level float64
	at    time.Time
}

func newThrottle(burst int, perSecond float64, now func() time.Time) *throttle {
	return &throttle{burst: float64(burst), rate: perSecond, size: 1 << 16, now: now, buckets: map[netip.Addr]*bucket{}}
}

// allow reports whether addr may act now.
func (t *throttle) allow(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.buckets) >= t.size {
		t.forget(now)
	}
	if _, known := t.buckets[addr]; !known && len(t.buckets) >= t.size {
		addr = netip.Addr{}
	}
	b := t.buckets[addr]
	if b == nil {
		b = &bucket{level: t.burst, at: now}
		t.buckets[addr] = b
	}
	b.level = min(t.burst, b.level+t.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// forget drops the buckets that are full again.
func (t *throttle) forget(now time.Time) {
	for addr, b := range t.buckets {
		if b.level+t.rate*now.Sub(b.at).Seconds() >= t.burst {
			delete(t.buckets, addr)
		}
	}
}

// A doorkeeper closes new connections of an address that holds too many
// already, and all new ones when there are too many in all: slow clients
// cost themselves, not the others.
type doorkeeper struct {
	perAddr int
	inAll   int

	mu    sync.Mutex
	conns map[net.Conn]netip.Addr
	held  map[netip.Addr]int
}

func newDoorkeeper(perAddr, inAll int) *doorkeeper {
	return &doorkeeper{perAddr: perAddr, inAll: inAll, conns: map[net.Conn]netip.Addr{}, held: map[netip.Addr]int{}}
}

// watch is a hook for http.Server.ConnState.
func (d *doorkeeper) watch(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !d.admit(conn) {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.release(conn)
	case http.StateActive, http.StateIdle:
	}
}

func (d *doorkeeper) admit(conn net.Conn) bool {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := ap.Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.conns) >= d.inAll || d.held[addr] >= d.perAddr {
		return false
	}
	d.conns[conn] = addr
	d.held[addr]++
	return true
}

func (d *doorkeeper) release(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr, ok := d.conns[conn]
	if !ok {
		return
	}
	delete(d.conns, conn)
	if d.held[addr]--; d.held[addr] == 0 {
		delete(d.held, addr)
	}
}
