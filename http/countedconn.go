package http

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/http/bootfile"
)

// A countedConn counts why it ends: net/http refuses bad requests and gives up
// on slow clients without telling anybody.
type countedConn struct {
	net.Conn
	counts  *counters
	head    []byte      // was read already
	asking  atomic.Bool // part of a request has come
	aborted atomic.Bool // a read was ended by net/http itself, between requests
	late    atomic.Bool // why it ended is counted

	deadline atomic.Int64 // of writing, as it was set last
}

// Read implements net.Conn.
func (c *countedConn) Read(b []byte) (int, error) {
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
		c.ended(&c.counts.slowHeaders)
	default:
		c.ended(&c.counts.idleClosed)
	}
	return n, err
}

// NetConn returns the connection that is counted, as that of a *tls.Conn does.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// SetReadDeadline implements net.Conn. A deadline long ago is how net/http
// ends its waiting for a machine to hang up.
func (c *countedConn) SetReadDeadline(t time.Time) error {
	c.aborted.Store(!t.IsZero() && t.Unix() <= 1)
	return c.Conn.SetReadDeadline(t)
}

// ownRefusal is in the answers that net/http itself gives to what is no
// request; no handler of ours writes it.
var ownRefusal = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// Write implements net.Conn.
func (c *countedConn) Write(b []byte) (int, error) {
	if refused := bytes.Contains(b[:min(len(b), 200)], ownRefusal); refused && bytes.HasPrefix(b, []byte("HTTP/1.1 431")) {
		c.counts.headersTooLarge.Add(1)
	} else if refused {
		c.counts.badRequests.Add(1)
	}
	return c.send(b)
}

// send writes an answer of ours.
func (c *countedConn) send(b []byte) (int, error) {
	c.asking.Store(false)
	c.extend()
	n, err := c.Conn.Write(b)
	c.stalled(err)
	return n, err
}

// ReadFrom implements io.ReaderFrom: it is what makes files go out by
// sendfile.
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) {
	c.asking.Store(false)
	from, ok := c.Conn.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	n, err := from.ReadFrom(r)
	c.stalled(err)
	return n, err
}

// extend sees to it that a write ends within [bootfile.StallTime], and does
// nothing where half of that is left from before: small answers are many.
func (c *countedConn) extend() {
	now := time.Now()
	if time.Unix(0, c.deadline.Load()).Sub(now) < bootfile.StallTime/2 {
		_ = c.SetWriteDeadline(now.Add(bootfile.StallTime))
	}
}

// SetWriteDeadline implements net.Conn.
func (c *countedConn) SetWriteDeadline(t time.Time) error {
	c.deadline.Store(t.UnixNano())
	return c.Conn.SetWriteDeadline(t)
}

func (c *countedConn) stalled(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended(&c.counts.stalledReaders)
	}
}

// ended counts why the connection ends: the first reason, not what follows.
func (c *countedConn) ended(why *atomic.Int64) {
	if !c.late.Swap(true) {
		why.Add(1)
	}
}
