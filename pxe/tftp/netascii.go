package tftp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
)

// Whoever is silent gets three blocks, in 1.2 s: pin does not know whether it
// ever heard the client.
const (
	resendAfter = 300 * time.Millisecond
	resends     = 2
)

// backoff is how much longer than resendAfter to wait the n-th time.
func backoff(n int) time.Duration { return resendAfter<<n - resendAfter }

// A lane is the socket that pin reads requests from: those in netascii that
// the [loop] at the port of requests passed on. They have been counted in.
//
// Pin's single-port mode is never used: one lost packet stalls it for ever.
// Its answers leave from the address that the system picks.
type lane struct {
	requests chan laneRequest
	closed   chan struct{}
	once     sync.Once
	at       net.Addr

	gate *gate
	last netip.Addr // of the request that was passed on last; of pin's goroutine
}

type laneRequest struct {
	packet []byte
	client netip.AddrPort
}

func newLane(g *gate, at netip.Addr) *lane {
	family := net.IPv4zero
	if at.Is6() {
		family = net.IPv6zero
	}
	return &lane{requests: make(chan laneRequest, 64), closed: make(chan struct{}), at: &net.UDPAddr{IP: family}, gate: g}
}

// pass hands a request to pin, unless too many wait already.
func (l *lane) pass(r request, client netip.AddrPort) bool {
	select {
	case l.requests <- laneRequest{r.bytes(), client}:
		return true
	default:
		return false
	}
}

// ReadFrom implements [net.PacketConn].
func (l *lane) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case r := <-l.requests:
		l.last = r.client.Addr()
		return copy(b, r.packet), net.UDPAddrFromAddrPort(r.client), nil
	case <-l.closed:
		l.last = netip.Addr{}
		return 0, nil, net.ErrClosed
	}
}

// Close implements [net.PacketConn].
func (l *lane) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// LocalAddr implements [net.PacketConn]: pin looks whether it is of IPv4.
func (l *lane) LocalAddr() net.Addr { return l.at }

// WriteTo implements [net.PacketConn]: pin answers from sockets of its own.
func (l *lane) WriteTo([]byte, net.Addr) (int, error) { return 0, os.ErrInvalid }

// SetDeadline implements [net.PacketConn]; there is none.
func (l *lane) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.PacketConn]; there is none.
func (l *lane) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.PacketConn]; there is none.
func (l *lane) SetWriteDeadline(time.Time) error { return nil }

// OnSuccess implements [tftp.Hook].
func (l *lane) OnSuccess(tftp.TransferStats) {}

// OnFailure implements [tftp.Hook]. Requests that pin could not begin have no
// address, and no handler will count them out; what happens to the others is
// known where they are read. Pin takes one request at a time.
func (l *lane) OnFailure(stats tftp.TransferStats, _ error) {
	if stats.RemoteAddr == nil && l.last.IsValid() {
		l.gate.leave(l.last)
		l.last = netip.Addr{}
	}
}

// servePin answers the requests of a lane until it is closed, and then waits
// for the transfers.
func (s *Server) servePin(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		s.servePinOnce(ctx, l)
	}
}

func (s *Server) servePinOnce(ctx context.Context, l *lane) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
		}
	}()
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error {
		return s.pinRead(ctx, name, rf)
	}, nil)
	srv.SetTimeout(resendAfter)
	srv.SetBackoff(backoff)
	srv.SetRetries(resends)
	// Pin sees no interface behind the lane and would fall to 512 bytes. The
	// block size has been cut already.
	srv.SetBlockSizeNegotiation(false)
	srv.SetBlockSize(maxBlock)
	srv.SetHook(l)
	stop := context.AfterFunc(ctx, srv.Shutdown)
	_ = srv.Serve(l) // ends by Shutdown only: a lane has no errors
	stop()
	srv.Shutdown()
}

// Texts that a client may see: pin sends the error that a handler returns.
var (
	errNotFound = errors.New("file not found")
	errNoServe  = errors.New("not available")
)

// pinRead sends one file by pin. It runs in a goroutine of its own.
func (s *Server) pinRead(ctx context.Context, name string, rf io.ReaderFrom) error {
	out, ok := rf.(tftp.OutgoingTransfer)
	if !ok {
		return errNoServe
	}
	remote := out.RemoteAddr()
	ap := remote.AddrPort()
	t := Transfer{Client: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), Name: name, Window: 1}
	defer s.gate.leave(t.Client.Addr())
	s.stats.running.Add(1)
	started := time.Now()
	answer := s.pinSendSafely(ctx, &t, out, rf)
	t.Duration = time.Since(started)
	s.finish(t)
	return answer
}

// pinSendSafely is pinSend, whatever the file does to us.
func (s *Server) pinSendSafely(ctx context.Context, t *Transfer, out tftp.OutgoingTransfer, rf io.ReaderFrom) (answer error) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			t.Err, answer = errPanicked, errNoServe
		}
	}()
	return s.pinSend(ctx, t, out, rf)
}

// pinSend fills in t and returns the error that the client may see.
func (s *Server) pinSend(ctx context.Context, t *Transfer, out tftp.OutgoingTransfer, rf io.ReaderFrom) error {
	file, size, err := s.open(ctx, t)
	if err != nil {
		t.Err = err
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			return errNotFound
		}
		return errNoServe
	}
	defer func() { _ = file.Close() }()
	out.SetSize(size)
	sent, err := rf.ReadFrom(pinSource{r: file, stopped: ctx.Err})
	t.Sent, t.Err = sent, err
	if err != nil {
		return errNoServe // pin has told the client already
	}
	return nil
}

// A pinSource is a file that ends with the server. It hides the file's Seek:
// the size is known already.
type pinSource struct {
	r       io.Reader
	stopped func() error
}

func (s pinSource) Read(b []byte) (int, error) {
	if s.stopped() != nil {
		return 0, errors.New("server is stopping") // the client sees it
	}
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		return n, errNoServe // its text has a path of ours
	}
	return n, err
}
