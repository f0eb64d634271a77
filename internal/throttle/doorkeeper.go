package throttle

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Doorkeeper sees to it that one host cannot fill a door. Each source (an IPv4
// address, or the 64 bits of IPv6 that one host has to itself) has so many places
// at most. Where its own are used up, or all are, a connection that is of no use
// gives way to the new one: who is idle, or does not take the answer that it asked
// for; and at last one of a source that holds far more than its share. What
// firmware asks for it takes as fast as it can.
type Doorkeeper struct {
	perSource int
	inAll     int
	isSubnet  func(netip.Addr) bool // see [Doorkeeper.Subnets]
	look      func(net.Conn) (answer, bool)

	places sync.Map // of net.Conn to *Place: read for each request, without a lock

	mu    sync.Mutex
	held  int
	peers map[netip.Addr]*peer
	rows  [][]*peer // by how many places they hold

	refusedOfAddr, refusedInAll, gaveWay, pushedOut int64
}

// A Place is what an admitted connection holds. It is idle at first.
type Place struct {
	conn  net.Conn
	peer  *peer
	index int          // in the places of its peer
	since atomic.Int64 // Unix time in ns: idle since then; below 0: busy since then
}

type peer struct {
	addr   netip.Addr
	places []*Place
	index  int // in its row
}

// NewDoorkeeper returns one that admits so many connections of one source, and
// of all together.
func NewDoorkeeper(perSource, inAll int) *Doorkeeper {
	return &Doorkeeper{
		perSource: perSource, inAll: inAll, isSubnet: func(netip.Addr) bool { return false }, look: answerOn,
		peers: map[netip.Addr]*peer{}, rows: make([][]*peer, perSource+1),
	}
}

// Subnets tells which IPv6 addresses are of networks where many machines share
// 64 bits: there each address is a source. It is for the time before the first
// connection.
func (d *Doorkeeper) Subnets(contain func(netip.Addr) bool) { d.isSubnet = contain }

// sourceOf returns under which address a connection is counted.
func (d *Doorkeeper) sourceOf(conn net.Conn) netip.Addr {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := ap.Addr().Unmap()
	if !addr.Is6() || addr.IsLinkLocalUnicast() || addr.IsLoopback() || d.isSubnet(addr) {
		return addr
	}
	return netip.PrefixFrom(addr.WithZone(""), 64).Masked().Addr()
}

// Refused returns how many connections were closed because their source held
// too many, and because there were too many in all.
func (d *Doorkeeper) Refused() (ofAddr, inAll int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refusedOfAddr, d.refusedInAll
}

// GaveWay returns how many connections were closed for new ones: idle ones, and
// busy ones.
func (d *Doorkeeper) GaveWay() (idle, busy int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gaveWay, d.pushedOut
}

// Held returns how many connections there are.
func (d *Doorkeeper) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// Busy notes that a request is in progress.
func (p *Place) Busy(now time.Time) { p.since.Store(-now.UnixNano()) }

// Idle notes that the connection waits for a request from now on.
func (p *Place) Idle(now time.Time) { p.since.Store(now.UnixNano()) }

// Watch is a hook for http.Server.ConnState, of a server that accepts its
// connections itself.
func (d *Doorkeeper) Watch(conn net.Conn, state http.ConnState) {
	if state != http.StateNew {
		d.WatchAdmitted(conn, state)
		return
	}
	p := d.Admit(conn)
	if p == nil {
		_ = conn.Close()
		return
	}
	p.Idle(time.Now()) // who does not end a request is not busy
}

// WatchAdmitted is Watch for a server whose connections have been admitted before
// it gets them. One that gave way in between is closed: it does not come in a
// second time, for which another one would have to go.
func (d *Doorkeeper) WatchAdmitted(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		d.Release(conn)
		return
	}
	p, in := d.places.Load(conn)
	switch place, _ := p.(*Place); {
	case !in:
		_ = conn.Close()
	case state == http.StateActive:
		place.Busy(time.Now())
	default:
		place.Idle(time.Now())
	}
}

// Admit returns the place of a connection that may stay: the same one, however
// often it is asked; nil when it may not.
func (d *Doorkeeper) Admit(conn net.Conn) *Place {
	p, away := d.admit(conn, d.sourceOf(conn))
	if away != nil {
		away.leave()
	}
	return p
}

func (d *Doorkeeper) admit(conn net.Conn, from netip.Addr) (p, away *Place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, in := d.places.Load(conn); in {
		return p.(*Place), nil //nolint:forcetypeassert // nothing else is in it
	}
	switch of := d.peers[from]; {
	case of != nil && len(of.places) >= d.perSource:
		if away = d.uselessOf(of); away == nil {
			d.refusedOfAddr++
			return nil, nil
		}
	case d.held >= d.inAll:
		if away = d.useless(of); away == nil {
			d.refusedInAll++
			return nil, nil
		}
	}
	if away != nil {
		d.count(away)
		d.remove(away)
	}
	return d.add(conn, from), away
}

// count counts a place that is taken away; the caller holds mu.
func (d *Doorkeeper) count(away *Place) {
	if away.since.Load() < 0 {
		d.pushedOut++
		return
	}
	d.gaveWay++
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
