package bootfile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Ends count why connections ended.
type Ends struct {
	BadRequests     atomic.Int64 // what came is not HTTP
	HeadersTooLarge atomic.Int64
	SlowHeaders     atomic.Int64 // a request did not end
	IdleClosed      atomic.Int64 // no request came
	StalledReaders  atomic.Int64 // nobody read the answer
}

// A Listener hands out connections that are counted.
type Listener struct {
	net.Listener
	Ends *Ends
}

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return NewConn(conn, l.Ends), nil
}

// A Conn counts why it ends: net/http refuses bad requests and gives up on slow
// clients without telling anybody.
type Conn struct {
	net.Conn
	ends    *Ends
	head    []byte      // was read already
	asking  atomic.Bool // part of a request has come
	aborted atomic.Bool // a read was ended by net/http itself, between requests
	late    atomic.Bool // why it ended is counted

	deadline atomic.Int64 // of writing, as it was set last
}

// NewConn returns a connection that is counted.
func NewConn(conn net.Conn, ends *Ends) *Conn { return &Conn{Conn: conn, ends: ends} }

// Unread gives back what was read; the next Read returns it first.
func (c *Conn) Unread(b []byte) { c.head = append([]byte(nil), b...) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	switch {
	case n > 0:
		c.asking.Store(true)
	case !errors.Is(err, os.ErrDeadlineExceeded) || c.aborted.Load():
	case c.asking.Load():
		c.ended(&c.ends.SlowHeaders)
	default:
		c.ended(&c.ends.IdleClosed)
	}
	return n, err
}

// NetConn returns the connection that is counted, as that of a *tls.Conn does.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// SetReadDeadline implements net.Conn. A deadline long ago is how net/http
// ends its waiting for a machine to hang up.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.aborted.Store(!t.IsZero() && t.Unix() <= 1)
	return c.Conn.SetReadDeadline(t)
}

// ownRefusal is in the answers that net/http itself gives to what is no
// request; no handler of ours writes it.
var ownRefusal = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	if refused := bytes.Contains(b[:min(len(b), 200)], ownRefusal); refused && bytes.HasPrefix(b, []byte("HTTP/1.1 431")) {
		c.ends.HeadersTooLarge.Add(1)
	} else if refused {
		c.ends.BadRequests.Add(1)
	}
	return c.Send(b)
}

// Send writes an answer that is not net/http's: it is not looked at.
func (c *Conn) Send(b []byte) (int, error) {
	c.asking.Store(false)
	c.extend()
	n, err := c.Conn.Write(b)
	c.stalled(err)
	return n, err
}

// ReadFrom implements io.ReaderFrom: it is what makes files go out by
// sendfile.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	c.asking.Store(false)
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return io.Copy(sender{c}, r)
	}
	if part, ok := r.(*io.LimitedReader); ok && part.N >= corkFrom {
		if _, ok := part.R.(*os.File); ok {
			defer cork(tcp)()
		}
	}
	n, err := tcp.ReadFrom(r)
	c.stalled(err)
	return n, err
}

// A sender writes to a connection what is not looked at.
type sender struct{ conn *Conn }

func (s sender) Write(b []byte) (int, error) { return s.conn.Send(b) }

// corkFrom is what a file has to be to be more than one packet.
const corkFrom = 64 << 10

// cork has the kernel hold back a packet that can grow, until uncork is called.
// Without it each ACK that comes while a file goes out sends off what there is:
// a fifth more packets (of GSO, which are 64 KiB at most), and a tenth more CPU.
// It is for files, which are never waited for: what comes slowly has to leave.
func cork(tcp *net.TCPConn) (uncork func()) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := func(on int) {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, on) })
	}
	set(1)
	return func() { set(0) }
}

// extend sees to it that a write ends within [StallTime], and does
// nothing where half of that is left from before: small answers are many.
func (c *Conn) extend() {
	now := time.Now()
	if time.Unix(0, c.deadline.Load()).Sub(now) < StallTime/2 {
		_ = c.SetWriteDeadline(now.Add(StallTime))
	}
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.deadline.Store(t.UnixNano())
	return c.Conn.SetWriteDeadline(t)
}

func (c *Conn) stalled(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended(&c.ends.StalledReaders)
	}
}

// ended counts why the connection ends: the first reason, not what follows.
func (c *Conn) ended(why *atomic.Int64) {
	if !c.late.Swap(true) {
		why.Add(1)
	}
}
