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

// Stats are what the boot listener counted since the start.
type Stats struct {
	Requests int64 // that reached it whole
	Files    int64 // answers with a boot file, or a part of one
	Chunks   int64 // of images
	Scripts  int64
	Links    int64 // one-use URLs that were used

	NotFound        int64
	BadMethods      int64 // neither GET nor HEAD
	BadRequests     int64 // that are not HTTP
	HeadersTooLarge int64
	SlowHeaders     int64 // connections closed because a request did not end
	IdleClosed      int64 // connections closed because no request came
	StalledReaders  int64 // connections closed because nobody read the answer
	TicketsRefused  int64 // too many of one address
	OthersNamed     int64 // requests that named another machine than the one that holds the address
	LinksRefused    int64 // used up, expired, of another address, or made up
	ConnsOfAddress  int64 // connections refused: too many of one address
	ConnsInAll      int64 // connections refused: too many
	Panics          int64
}

type counters struct {
	requests, files, chunks, scripts, links                         atomic.Int64
	notFound, badMethods, badRequests, headersTooLarge              atomic.Int64
	slowHeaders, idleClosed, stalledReaders, ticketsRefused, panics atomic.Int64
	linksRefused, othersNamed                                       atomic.Int64
}

// BootStats returns the counters of the boot listener.
func (s *Server) BootStats() Stats {
	c := &s.counts
	ofAddr, inAll := s.bootDoor.Refused()
	return Stats{
		Requests: c.requests.Load(), Files: c.files.Load(), Chunks: c.chunks.Load(), Scripts: c.scripts.Load(), Links: c.links.Load(),
		NotFound: c.notFound.Load(), OthersNamed: c.othersNamed.Load(), BadMethods: c.badMethods.Load(), BadRequests: c.badRequests.Load(), HeadersTooLarge: c.headersTooLarge.Load(),
		SlowHeaders: c.slowHeaders.Load(), IdleClosed: c.idleClosed.Load(), StalledReaders: c.stalledReaders.Load(),
		TicketsRefused: c.ticketsRefused.Load(), LinksRefused: c.linksRefused.Load(),
		ConnsOfAddress: ofAddr, ConnsInAll: inAll, Panics: c.panics.Load(),
	}
}

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
