// Package throttle keeps one peer from costing the others: a rate for acts and
// a count of connections, for each peer and with bounded memory.
package throttle

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A Throttle allows each key, such as an address, a burst of acts and then a
// steady rate. It remembers a bounded number of keys: when it is full of
// others, a new one shares the common bucket, that of the zero key.
type Throttle[K comparable] struct {
	burst float64
	rate  float64 // per second
	size  int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[K]*bucket
	swept   time.Time
}

type bucket struct {
	level float64
	at    time.Time
}

// New returns a throttle of at most size keys.
func New[K comparable](size, burst int, perSecond float64, now func() time.Time) *Throttle[K] {
	return &Throttle[K]{burst: float64(burst), rate: perSecond, size: size, now: now, buckets: map[K]*bucket{}}
}

// Allow reports whether a key may act now.
func (t *Throttle[K]) Allow(key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.buckets) >= t.size && now.Sub(t.swept).Abs() >= sweepEvery {
		t.forget(now)
	}
	if _, known := t.buckets[key]; !known && len(t.buckets) >= t.size {
		var shared K
		key = shared
	}
	b := t.buckets[key]
	if b == nil {
		b = &bucket{level: t.burst, at: now}
		t.buckets[key] = b
	}
	b.level = min(t.burst, b.level+t.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// sweepEvery is how often all keys are looked at, when there are many: not at
// each act of a flood.
const sweepEvery = time.Second

// forget drops the buckets that are full again.
func (t *Throttle[K]) forget(now time.Time) {
	t.swept = now
	for key, b := range t.buckets {
		if b.level+t.rate*now.Sub(b.at).Seconds() >= t.burst {
			delete(t.buckets, key)
		}
	}
}

// A Doorkeeper closes new connections of an address that holds too many
// already, and all new ones when there are too many in all: slow clients
// cost themselves, not the others.
type Doorkeeper struct {
	perAddr int
	inAll   int

	mu    sync.Mutex
	conns map[net.Conn]netip.Addr
	held  map[netip.Addr]int

	refusedOfAddr, refusedInAll int64
}

// NewDoorkeeper returns one that admits so many connections of one address, and
// of all together.
func NewDoorkeeper(perAddr, inAll int) *Doorkeeper {
	return &Doorkeeper{perAddr: perAddr, inAll: inAll, conns: map[net.Conn]netip.Addr{}, held: map[netip.Addr]int{}}
}

// Refused returns how many connections were closed because their address held
// too many, and because there were too many in all.
func (d *Doorkeeper) Refused() (ofAddr, inAll int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refusedOfAddr, d.refusedInAll
}

// Watch is a hook for http.Server.ConnState.
func (d *Doorkeeper) Watch(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !d.Admit(conn) {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.Release(conn)
	case http.StateActive, http.StateIdle:
	}
}

// Admit reports whether a connection may stay, and counts it if so: once,
// however often it is asked.
func (d *Doorkeeper) Admit(conn net.Conn) bool {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := ap.Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, in := d.conns[conn]; in {
		return true
	}
	switch {
	case d.held[addr] >= d.perAddr:
		d.refusedOfAddr++
		return false
	case len(d.conns) >= d.inAll:
		d.refusedInAll++
		return false
	}
	d.conns[conn] = addr
	d.held[addr]++
	return true
}

// Release counts a connection out; one that was not counted in is no matter.
func (d *Doorkeeper) Release(conn net.Conn) {
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
