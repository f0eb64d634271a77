package http

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/http/bootfile"
	"github.com/rackstage/provision/internal/throttle"
)

// A quickDoor is a boot listener that answers requests for scripts itself. A
// script is small, each machine asks for its own, and a hall whose power comes
// back asks for all of them at once: one read and one write do, where net/http
// takes twice as much of the processor for everything that a request could be.
//
// It reads a connection for as long as it brings what [parseQuick] knows. With
// the first byte of anything else, net/http gets the connection from Accept, and
// keeps it. Limits are the same on both sides of the door.
type quickDoor struct {
	net.Listener
	ends   *bootfile.Ends
	keeper *throttle.Doorkeeper
	answer func(dst []byte, a scriptAsk) []byte // appends a whole answer
	broken func(r any)                          // a panic

	come   chan arrival // for net/http
	closed chan struct{}
	once   sync.Once
	all    sync.WaitGroup
	spare  sync.Pool // of *quickBuffer

	mu    sync.Mutex
	conns map[*bootfile.Conn]bool
}

// An arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

type quickBuffer struct {
	in  [quickSize]byte
	out []byte
}

func (s *Server) newQuickDoor(l net.Listener) *quickDoor {
	d := &quickDoor{
		Listener: l, ends: &s.counts.ends, keeper: s.bootDoor, answer: boot{s}.quickScript,
		broken: func(r any) { s.counts.panics.Add(1); _ = s.panickedAt(context.Background(), "quick door", r) },
		come:   make(chan arrival), closed: make(chan struct{}), conns: map[*bootfile.Conn]bool{},
	}
	d.spare.New = func() any { return &quickBuffer{out: make([]byte, 0, 2<<10)} }
	d.all.Go(d.greet)
	return d
}

// Accept implements net.Listener: it returns the connections that are for
// net/http.
func (d *quickDoor) Accept() (net.Conn, error) {
	select {
	case a := <-d.come:
		return a.conn, a.err
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Who waits for a request is let go, and an
// answer that is on its way has a moment to get there.
func (d *quickDoor) Close() (err error) {
	d.once.Do(func() {
		close(d.closed)
		err = d.Listener.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		for c := range d.conns {
			_ = c.SetReadDeadline(time.Unix(1, 0))
			_ = c.SetWriteDeadline(time.Now().Add(drainTime))
		}
	})
	return err
}

// wait returns when no connection is left on this side of the door.
func (d *quickDoor) wait() { d.all.Wait() }

// greet accepts connections. It is net/http that waits and tries again when
// there are too many files open, so that it gets to know of every error.
func (d *quickDoor) greet() {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			if !d.pass(arrival{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		c := bootfile.NewConn(conn, d.ends)
		place := d.keeper.Admit(c)
		if place == nil {
			_ = c.Close()
			continue
		}
		d.all.Go(func() { d.serve(c, place) })
	}
}

// pass hands over to net/http.
func (d *quickDoor) pass(a arrival) bool {
	select {
	case d.come <- a:
		return true
	case <-d.closed:
		return false
	}
}

// serve answers what a connection brings, and then closes it or passes it on.
func (d *quickDoor) serve(c *bootfile.Conn, place *throttle.Place) {
	d.mu.Lock()
	d.conns[c] = true
	d.mu.Unlock()
	goesOn := d.talk(c, place)
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	if !goesOn || !d.pass(arrival{conn: c}) {
		d.keeper.Release(c)
		_ = c.Close()
	}
}

// talk answers requests for scripts. It returns true when something else has
// come, which the connection then has at its head.
func (d *quickDoor) talk(c *bootfile.Conn, place *throttle.Place) (goesOn bool) {
	defer func() {
		if r := recover(); r != nil {
			d.broken(r)
			_, _ = c.Send(brokenAnswer)
			goesOn = false
		}
	}()
	if _, secure := c.Conn.(*tls.Conn); secure {
		return true // its handshake, and its deadlines, are net/http's
	}
	buf := d.spare.Get().(*quickBuffer) //nolint:forcetypeassert // nothing else is in it
	defer d.spare.Put(buf)
	ask := scriptAsk{addr: tcpAddr(c.RemoteAddr()), local: tcpAddr(c.LocalAddr())}
	silence := silence{conn: c, place: place, closed: d.closed}
	for answered := false; ; {
		if !silence.allow(answered) {
			return false
		}
		n, err := c.Read(buf.in[:])
		if err != nil {
			return false
		}
		place.Busy(time.Now())
		for rest := buf.in[:n]; len(rest) > 0; {
			query, size, ok := parseQuick(rest)
			if !ok {
				place.Idle(time.Now()) // until net/http has a whole request
				c.Unread(rest)
				return true
			}
			rest, ask.query = rest[size:], string(query)
			buf.out = d.answer(buf.out[:0], ask)
			if _, err := c.Send(buf.out); err != nil {
				return false
			}
			answered = true
		}
	}
}

var brokenAnswer = []byte("HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 15\r\n" +
	"Connection: close\r\n\r\ninternal error\n")

// A silence is how long a connection may be silent: not long for its first
// request, then as long as net/http lets it. The deadline is moved on now and
// then, not for each of many requests.
type silence struct {
	conn   *bootfile.Conn
	place  *throttle.Place
	closed <-chan struct{}
	until  time.Time
}

// allow sets the deadline for what comes next. It returns false when the door
// has been closed.
func (p *silence) allow(answered bool) bool {
	now := time.Now()
	if answered {
		p.place.Idle(now)
	}
	switch {
	case p.until.IsZero():
		p.until = now.Add(headerTime)
	case answered && p.until.Sub(now) < idleTime/2:
		p.until = now.Add(idleTime)
	default:
		return true
	}
	_ = p.conn.SetReadDeadline(p.until)
	select { // after the deadline: Close sets it too
	case <-p.closed:
		return false
	default:
		return true
	}
}

func tcpAddr(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// quickScript appends the answer to a request for a script.
func (b boot) quickScript(dst []byte, a scriptAsk) []byte {
	b.counts.requests.Add(1)
	buf := b.spare.Get().(*scriptBuffer) //nolint:forcetypeassert // nothing else is in it
	defer b.spare.Put(buf)
	r := b.scriptFor(context.Background(), buf, a)
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(strconv.AppendInt(dst, int64(r.status), 10), ' ')
	dst = append(append(dst, http.StatusText(r.status)...), "\r\nDate: "...)
	dst = append(dst, b.dates.text(b.o.Now())...)
	if r.status == http.StatusTooManyRequests {
		dst = append(append(dst, "\r\nRetry-After: "...), retryTicket...)
	}
	dst = append(dst, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = append(strconv.AppendInt(dst, int64(len(r.text)), 10), "\r\n\r\n"...)
	dst = append(dst, r.text...)
	buf.keep(r.text)
	return dst
}

// dates are the values of Date headers, of which all that leave within a second
// have the same one.
type dates struct{ last atomic.Pointer[date] }

type date struct {
	second int64
	text   string
}

func (d *dates) text(now time.Time) string {
	last := d.last.Load()
	if last == nil || last.second != now.Unix() {
		last = &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
		d.last.Store(last)
	}
	return last.text
}
