package tftp

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options say what a server serves, and how much at once.
type Options struct {
	// Open returns the file that a client asks for, and its size. The name is
	// a clean relative path. A [fs.ErrNotExist] is "file not found",
	// [ErrNotByTFTP] is said to the client as it is; the text of any other
	// error stays here. An [os.File] of which many are asked for is kept in
	// memory.
	Open func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error)
	// Done is told of each transfer that is over; may be nil. It must not block.
	Done func(Transfer)
	Log  *slog.Logger // may be nil

	// MaxBlock is the largest block that a client gets on with; 0 is any. It
	// may be nil.
	MaxBlock func(client netip.Addr) int

	// Serves reports whether a client may ask at all; nil: each may. Whoever
	// may not gets no answer. It must not block.
	Serves func(client netip.Addr) bool

	// Strangers notes who asks to read and may not; may be nil.
	Strangers *Strangers

	// SinglePort has all packets leave from the port of requests, for
	// firewalls that let nothing else through. There are no windows then: who
	// sends in the name of another knows the port, so an ACK proves nothing.
	SinglePort bool

	MaxPerSource int   // transfers at once per client address; 0: 8
	MaxPerSecond int   // requests per second and client address, twice that in a burst; 0: 100
	MaxTransfers int   // transfers at once in all; 0: 20,000, two of each machine of a hall
	MaxMemory    int64 // bytes of files kept in memory; 0: 64 MiB
}

// ErrNotByTFTP is for Options.Open: the file is there, but too big to be
// loaded this way.
var ErrNotByTFTP = errors.New("not by TFTP, load it by HTTP")

// A Transfer is one file that a client asked for.
type Transfer struct {
	Client   netip.AddrPort
	Local    netip.AddrPort // where its packets came from
	Name     string         // clean; hostile text all the same
	Size     int64
	Sent     int64 // acknowledged
	Block    int   // bytes per packet
	Window   int   // packets per ACK
	Packets  int64 // sent
	Resent   int64 // of those, again
	RTT      time.Duration
	Duration time.Duration
	Proved   bool  // the client acknowledged what it could not have guessed: its address is its own
	Err      error // nil: the client has all of it
}

// Probed reports whether the client asked for the size only. UEFI firmware
// does that first, and then stops the transfer with an error.
func (t Transfer) Probed() bool {
	_, aborted := errors.AsType[*AbortedError](t.Err)
	return aborted && t.Sent == 0
}

// A Server serves files by TFTP.
type Server struct {
	o     Options
	gate  *gate
	cache *cache
	lines switchboard
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
	if o.MaxPerSecond <= 0 {
		o.MaxPerSecond = 100
	}
	if o.MaxTransfers <= 0 {
		o.MaxTransfers = 20_000
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 64 << 20
	}
	some := sixthOfFiles()
	return &Server{o: o, gate: newGate(o), cache: newCache(o.MaxMemory, some), lines: newSwitchboard(some)}, nil
}

// sixthOfFiles is how many descriptors lines may have, and as many files that
// are too big for the memory. Two thirds are left to HTTP, DHCP and the store.
func sixthOfFiles() int {
	const least, most = 100, 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return least
	}
	return int(max(least, min(limit.Cur/6, most))) //nolint:gosec // at most 10,000
}

// Serve answers requests that come to conn, a UDP socket, until ctx is done,
// and closes conn. Transfers that run then are broken off.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	defer func() { _ = conn.Close() }()
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("serve TFTP: a %T is no socket", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("serve TFTP: %w", err)
	}
	var served error
	err = raw.Read(func(fd uintptr) bool {
		served = s.serveOn(ctx, int(fd)) //nolint:gosec // descriptors are small
		return true
	})
	if err = errors.Join(err, served); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve TFTP: %w", err)
	}
	return nil
}

// serveOn serves on the socket of requests, and on others that it opens.
func (s *Server) serveOn(ctx context.Context, fd int) error {
	where, err := whereIs(fd)
	if err != nil {
		return err
	}
	if err := where.prepare(fd); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	front, err := s.newLoop(ctx, where)
	if err != nil {
		return err
	}
	defer front.close()
	front.base = &line{fd: fd, port: where.at.Port()}
	if s.o.SinglePort {
		front.ask = func(r request, p *packet, now time.Time) {
			if r.mode != "octet" {
				s.stats.refused.Add(1)
				front.sendError(&transfer{to: *p.from, control: leaveFrom(p.local, where.v6)}, "mode octet only")
				return
			}
			front.begin(r, *p.from, p.local, now)
		}
		return front.run()
	}
	senders, err := s.openSenders(ctx, where)
	defer func() {
		for _, l := range senders {
			_ = unix.Close(l.base.fd)
			l.close()
		}
	}()
	if err != nil {
		return err
	}
	pin := newLane(s.gate, where.at.Addr())
	front.ask = s.dispatch(senders, pin)
	for _, l := range senders {
		group.Go(l.run)
	}
	group.Go(func() error { s.servePin(ctx, pin); return nil })
	group.Go(front.run)
	return group.Wait()
}

// openSenders makes loops for transfers: one does 150,000 packets a second,
// so a small machine has one, beside the CPU that DHCP and HTTP need.
func (s *Server) openSenders(ctx context.Context, where site) (loops []*loop, err error) {
	n := max(1, min(runtime.GOMAXPROCS(0)/2, 8))
	for range n {
		l, err := s.newLoop(ctx, where)
		if err != nil {
			return loops, err
		}
		fd, port, err := where.openLine()
		if err != nil {
			l.close()
			return loops, err
		}
		l.base = &line{fd: fd, port: port}
		l.beside = n
		loops = append(loops, l)
	}
	return loops, nil
}

// dispatch hands each request to the loop of its client, or to pin.
func (s *Server) dispatch(senders []*loop, pin *lane) func(request, *packet, time.Time) {
	seed := maphash.MakeSeed()
	return func(r request, p *packet, now time.Time) {
		who := p.from.peer()
		if r.mode != "octet" {
			if s.counted(s.gate.enter(who.ap.Addr(), now), who.ap, r.name) && !pin.pass(r, who.ap) {
				s.gate.leave(who.ap.Addr())
				s.stats.capped.Add(1)
			}
			return
		}
		l := senders[maphash.Comparable(seed, who)%uint64(len(senders))]
		from, local := *p.from, p.local
		l.hand(func(now time.Time) { l.begin(r, from, local, now) })
	}
}

// whereIs finds out what a socket is bound to.
func whereIs(fd int) (site, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return site{}, err
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		addr := netip.AddrFrom4(a.Addr)
		return site{at: netip.AddrPortFrom(addr, uint16(a.Port)), many: addr.IsUnspecified()}, nil //nolint:gosec // a port
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		return site{at: netip.AddrPortFrom(withZone(addr, a.ZoneId), uint16(a.Port)), v6: true, many: addr.IsUnspecified()}, nil //nolint:gosec // a port
	}
	return site{}, fmt.Errorf("socket of kind %T", name)
}

// open asks for the file of a transfer, and fills in its clean name and size.
func (s *Server) open(ctx context.Context, t *Transfer) (io.ReadCloser, int64, error) {
	name, ok := cleanName(t.Name)
	if !ok {
		return nil, 0, fmt.Errorf("file name %q: %w", t.Name, fs.ErrInvalid)
	}
	t.Name = name
	file, size, err := s.o.Open(ctx, name, t.Client)
	if err != nil {
		return nil, 0, err
	}
	t.Size = size
	return file, size, nil
}

// finish counts a transfer that is over, and tells of it.
func (s *Server) finish(t Transfer) {
	s.stats.ended(t)
	s.o.Log.Debug("tftp transfer ended", "client", t.Client, "file", fmt.Sprintf("%q", t.Name), "sent", t.Sent, "block", t.Block,
		"window", t.Window, "resent", t.Resent, "rtt", t.RTT, "err", t.Err)
	if s.o.Done != nil {
		defer func() {
			if p := recover(); p != nil {
				s.panicked(p)
			}
		}()
		s.o.Done(t)
	}
}

// panicked counts a bug that a packet, or a file, has brought out.
func (s *Server) panicked(p any) {
	s.stats.panics.Add(1)
	s.o.Log.Error("tftp packet made us panic", "panic", p, "stack", string(debug.Stack()))
}

// counted counts a request that the gate kept out.
func (s *Server) counted(v verdict, client netip.AddrPort, name string) bool {
	switch v {
	case admitted:
		return true
	case tooOften:
		s.stats.limited.Add(1)
	default:
		s.stats.capped.Add(1)
	}
	s.o.Log.Debug("tftp request dropped", "client", client, "file", fmt.Sprintf("%q", name))
	return false
}
