package throttle

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Doorkeeper closes new connections of an address that holds too many
// already: slow clients cost themselves, not the others. When there are too many
// in all, one that has been idle for long gives way to the new one.
type Doorkeeper struct {
	perAddr int
	inAll   int

	places sync.Map // of net.Conn to *Place: read for each request, without a lock

	mu    sync.Mutex
	held  int
	peers map[netip.Addr]*peer
	rows  [][]*peer // by how many places they hold

	refusedOfAddr, refusedInAll, gaveWay int64
}

// A Place is what an admitted connection holds. It is idle at first.
type Place struct {
	conn  net.Conn
	peer  *peer
	index int          // in the places of its peer
	idle  atomic.Int64 // since when, as Unix time in ns; 0: it is busy
}

type peer struct {
	addr   netip.Addr
	places []*Place
	index  int // in its row
}

// NewDoorkeeper returns one that admits so many connections of one address, and
// of all together.
func NewDoorkeeper(perAddr, inAll int) *Doorkeeper {
	return &Doorkeeper{perAddr: perAddr, inAll: inAll, peers: map[netip.Addr]*peer{}, rows: make([][]*peer, perAddr+1)}
}

// Refused returns how many connections were closed because their address held
// too many, and because there were too many in all.
func (d *Doorkeeper) Refused() (ofAddr, inAll int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refusedOfAddr, d.refusedInAll
}

// GaveWay returns how many idle connections were closed for new ones.
func (d *Doorkeeper) GaveWay() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gaveWay
}

// Busy notes that a request is in progress: the connection does not give way.
func (p *Place) Busy() { p.idle.Store(0) }

// Idle notes that the connection waits for a request from now on.
func (p *Place) Idle(now time.Time) { p.idle.Store(now.UnixNano()) }

// Watch is a hook for http.Server.ConnState.
func (d *Doorkeeper) Watch(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p := d.Admit(conn)
		if p == nil {
			_ = conn.Close()
			return
		}
		p.Idle(time.Now()) // who does not end a request is not busy
	case http.StateClosed, http.StateHijacked:
		d.Release(conn)
	case http.StateActive:
		if p, ok := d.places.Load(conn); ok {
			p.(*Place).Busy() //nolint:forcetypeassert // nothing else is in it
		}
	case http.StateIdle:
		if p, ok := d.places.Load(conn); ok {
			p.(*Place).Idle(time.Now()) //nolint:forcetypeassert // nothing else is in it
		}
	}
}

// Admit returns the place of a connection that may stay: the same one, however
// often it is asked; nil when it may not.
func (d *Doorkeeper) Admit(conn net.Conn) *Place {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	p, away := d.admit(conn, ap.Addr().Unmap())
	if away != nil {
		_ = rawConn(away.conn).Close() // who waits for its requests gets to know, and releases it
	}
	return p
}

func (d *Doorkeeper) admit(conn net.Conn, addr netip.Addr) (p, away *Place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, in := d.places.Load(conn); in {
		return p.(*Place), nil //nolint:forcetypeassert // nothing else is in it
	}
	if of := d.peers[addr]; of != nil && len(of.places) >= d.perAddr {
		d.refusedOfAddr++
		return nil, nil
	}
	if d.held >= d.inAll {
		if away = d.longestIdle(); away == nil {
			d.refusedInAll++
			return nil, nil
		}
		d.gaveWay++
		d.remove(away)
	}
	return d.add(conn, addr), away
}

// Release counts a connection out; one that was not counted in is no matter.
func (d *Doorkeeper) Release(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.places.Load(conn); ok {
		d.remove(p.(*Place)) //nolint:forcetypeassert // nothing else is in it
	}
}

// add makes a place; the caller holds mu.
func (d *Doorkeeper) add(conn net.Conn, addr netip.Addr) *Place {
	of := d.peers[addr]
	if of == nil {
		of = &peer{addr: addr}
		d.peers[addr] = of
	} else {
		d.leaveRow(of)
	}
	p := &Place{conn: conn, peer: of, index: len(of.places)}
	p.Idle(time.Now())
	of.places = append(of.places, p)
	d.enterRow(of)
	d.places.Store(conn, p)
	d.held++
	return p
}

// remove takes a place away; the caller holds mu.
func (d *Doorkeeper) remove(p *Place) {
	d.places.Delete(p.conn)
	d.held--
	of := p.peer
	d.leaveRow(of)
	last := of.places[len(of.places)-1]
	of.places[p.index], last.index = last, p.index
	of.places[len(of.places)-1] = nil
	of.places = of.places[:len(of.places)-1]
	if len(of.places) == 0 {
		delete(d.peers, of.addr)
		return
	}
	d.enterRow(of)
}

func (d *Doorkeeper) enterRow(of *peer) {
	row := &d.rows[len(of.places)]
	of.index = len(*row)
	*row = append(*row, of)
}

func (d *Doorkeeper) leaveRow(of *peer) {
	row := &d.rows[len(of.places)]
	last := (*row)[len(*row)-1]
	(*row)[of.index], last.index = last, of.index
	(*row)[len(*row)-1] = nil
	*row = (*row)[:len(*row)-1]
}

// looks is how many places of each row are looked at, about: who makes us search
// often does not make us search long.
const looks = 128

// longestIdle returns the place that gives way: the one that has been idle
// longest, of the addresses that hold most. Of very many that hold as many as
// each other, any few do. It is nil when all are busy. The caller holds mu.
func (d *Doorkeeper) longestIdle() (found *Place) {
	since := int64(0)
	for n := len(d.rows) - 1; n > 0 && found == nil; n-- {
		row := d.rows[n]
		if len(row) == 0 {
			continue
		}
		first := rand.IntN(len(row)) //nolint:gosec // no secret
		for i := 0; i < len(row) && i*n < looks; i++ {
			for _, p := range row[(first+i)%len(row)].places {
				if s := p.idle.Load(); s != 0 && (found == nil || s < since) {
					found, since = p, s
				}
			}
		}
	}
	return found
}

// rawConn is the connection below: to close one of TLS in good order takes
// time.
func rawConn(conn net.Conn) net.Conn {
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = above.NetConn()
	}
}
