package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pin/tftp/v3"
)

// Under loss these are the best of all that were tried (256 KiB at 5 % loss in
// 5.7 s, where the others need 17 to 48 s); a silent client is given up after
// nine seconds.
const (
	resendAfter = 300 * time.Millisecond
	resends     = 30
)

// Options say what a server serves, and how much at once.
type Options struct {
	// Open returns the file that a client asks for, and its size. The name is
	// a clean relative path. A [fs.ErrNotExist] is "file not found"; the text
	// of any other error stays here as well.
	Open func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error)
	// Done is told of each transfer that is over; may be nil. It must not block.
	Done func(Transfer)
	Log  *slog.Logger // may be nil

	MaxPerSource int // transfers at once per client address; 0: 8
	MaxTransfers int // transfers at once in all; 0: a third of the open files that we may have
}

// A Transfer is one file that a client asked for.
type Transfer struct {
	Client   netip.AddrPort
	Name     string // clean; hostile text all the same
	Size     int64
	Sent     int64
	Duration time.Duration
	Err      error // nil: the client has all of it
}

// Probed reports whether the client asked for the size only. UEFI firmware
// does that first, and then stops the transfer with an error.
func (t Transfer) Probed() bool { return t.Err != nil && t.Sent == 0 && t.Size > 0 }

// Stats are counters since the start.
type Stats struct {
	Done, Failed, NotFound, Malformed, Writes, Capped int64
	Running                                           int64
}

type counters struct {
	done, failed, notFound, malformed, writes, capped, running atomic.Int64
}

// A Server serves files by TFTP.
type Server struct {
	o     Options
	stats counters
}

// New returns a server that serves nothing yet.
func New(o Options) (*Server, error) {
	if o.Open == nil {
		return nil, errors.New("tftp: no Open in the options")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxPerSource <= 0 {
		o.MaxPerSource = 8
	}
	if o.MaxTransfers <= 0 {
		o.MaxTransfers = thirdOfFiles()
	}
	return &Server{o: o}, nil
}

// thirdOfFiles leaves two thirds of the descriptors to HTTP, DHCP and the
// store: each transfer has a socket, and mostly a file.
func thirdOfFiles() int {
	const least, most = 100, 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return least
	}
	return int(max(least, min(limit.Cur/3, most)))
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Done: c.done.Load(), Failed: c.failed.Load(), NotFound: c.notFound.Load(), Malformed: c.malformed.Load(),
		Writes: c.writes.Load(), Capped: c.capped.Load(), Running: c.running.Load(),
	}
}

// Serve answers requests that come to conn until ctx is done, and closes conn.
// Transfers that run then are broken off.
//
// Pin's single-port mode is never used: one lost packet stalls it for ever.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	g := newGuard(conn, s.o, &s.stats)
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error {
		return s.read(ctx, g, name, rf)
	}, nil)
	srv.SetTimeout(resendAfter)
	srv.SetBackoff(func(int) time.Duration { return 0 })
	srv.SetRetries(resends)
	// Pin sees no interface behind the guard and would fall to 512 bytes. The
	// guard has cut the block size already.
	srv.SetBlockSizeNegotiation(false)
	srv.SetBlockSize(maxBlock)
	srv.SetHook(unbegun{g})

	stop := context.AfterFunc(ctx, srv.Shutdown)
	err := srv.Serve(g)
	stop()
	srv.Shutdown() // waits for the transfers
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve TFTP: %w", err)
	}
	return nil
}

// unbegun hears of requests that pin could not begin. They alone have no
// address; what happens to the others is known where they are read.
type unbegun struct{ g *guard }

func (unbegun) OnSuccess(tftp.TransferStats) {}

func (u unbegun) OnFailure(stats tftp.TransferStats, _ error) {
	if stats.RemoteAddr == nil {
		u.g.endLast()
	}
}

// Texts that a client may see: pin sends the error that a handler returns.
var (
	errNotFound = errors.New("file not found")
	errNoServe  = errors.New("not available")
)

// read sends one file. It runs in a goroutine of its own.
func (s *Server) read(ctx context.Context, g *guard, name string, rf io.ReaderFrom) error {
	out, ok := rf.(tftp.OutgoingTransfer)
	if !ok {
		return errNoServe
	}
	remote := out.RemoteAddr()
	ap := remote.AddrPort()
	client := netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	defer g.end(client.Addr())
	s.stats.running.Add(1)
	defer s.stats.running.Add(-1)

	t := Transfer{Client: client, Name: name}
	started := time.Now()
	answer := s.send(ctx, &t, out, rf)
	t.Duration = time.Since(started)
	s.finish(t)
	return answer
}

// send fills in t and returns the error that the client may see.
func (s *Server) send(ctx context.Context, t *Transfer, out tftp.OutgoingTransfer, rf io.ReaderFrom) error {
	name, ok := cleanName(t.Name)
	if !ok {
		t.Err = fmt.Errorf("file name %q: %w", t.Name, fs.ErrInvalid)
		return errNotFound
	}
	t.Name = name
	file, size, err := s.o.Open(ctx, name, t.Client)
	if err != nil {
		t.Err = err
		if errors.Is(err, fs.ErrNotExist) {
			return errNotFound
		}
		return errNoServe
	}
	defer func() { _ = file.Close() }()
	t.Size = size
	out.SetSize(size)
	sent, err := rf.ReadFrom(source{r: file, stopped: ctx.Err})
	t.Sent, t.Err = sent, err
	if err != nil {
		return errNoServe // pin has told the client already
	}
	return nil
}

func (s *Server) finish(t Transfer) {
	switch {
	case errors.Is(t.Err, fs.ErrNotExist), errors.Is(t.Err, fs.ErrInvalid):
		s.stats.notFound.Add(1)
	case t.Err != nil:
		s.stats.failed.Add(1)
	default:
		s.stats.done.Add(1)
	}
	s.o.Log.Debug("tftp transfer ended", "client", t.Client, "file", fmt.Sprintf("%q", t.Name), "sent", t.Sent, "err", t.Err)
	if s.o.Done != nil {
		s.o.Done(t)
	}
}

// A source is a file that ends with the server. It hides the file's Seek:
// the size is known already.
type source struct {
	r       io.Reader
	stopped func() error
}

// errStopping is what a client sees of a server that stops.
var errStopping = errors.New("server is stopping")

func (s source) Read(b []byte) (int, error) {
	if s.stopped() != nil {
		return 0, errStopping
	}
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		return n, errNoServe // its text has a path of ours
	}
	return n, err
}
