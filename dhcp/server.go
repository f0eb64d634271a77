package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/dhcp/alarm"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

// A Server answers DHCP requests.
type Server struct {
	o      Options
	stats  counters
	links  *links.Table
	book   *book
	watch  *foreign.Watch
	nets   atomic.Pointer[networks] // what is declared
	prober *prober
	alarms *alarm.Board

	tenants tenants

	declaring sync.Mutex
	saving    sync.Mutex
	ready     chan struct{} // closed when the leases are loaded
}

// New returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, links: links.New(o.Interfaces, netip.Addr.Is4), book: newBook(o.Now),
		alarms: alarm.New(o.Alarms, o.Now, quietTime), ready: make(chan struct{}),
	}
	s.nets.Store(newNetworks(o.Subnets, o.Pools))
	s.book.configure(s.nets.Load().sorted, nil, func() {})
	s.watch = s.newWatch()
	s.watch.SetSubnets(o.Subnets)
	return s, nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	now := s.stats.stats()
	now.TenantsForgotten = s.tenants.lost()
	return now
}

// LeaseByAddr returns the lease that holds an address now.
func (s *Server) LeaseByAddr(addr netip.Addr) (fleet.Lease, bool) {
	return s.book.leaseByAddr(addr.Unmap())
}

// Gave reports whether a client has an address from us, or had it last: boot
// programs go on with a lease that is over.
func (s *Server) Gave(addr netip.Addr) bool { return s.book.gave(addr.Unmap()) }

// SetSubnets changes what is served, from the moment on at which it returns, or a
// little sooner. Leases stay.
func (s *Server) SetSubnets(subnets []fleet.Subnet) {
	s.declaring.Lock()
	defer s.declaring.Unlock()
	s.o.Subnets = slices.Clone(subnets)
	nets := newNetworks(s.o.Subnets, s.o.Pools)
	s.book.configure(nets.sorted, s.links.Owned(), func() { s.nets.Store(nets) })
	s.watch.SetSubnets(subnets)
}

// SetPools changes the options that nodes of the pools get, from the next
// packet on.
func (s *Server) SetPools(pools []fleet.Pool) {
	s.declaring.Lock()
	defer s.declaring.Unlock()
	s.o.Pools = slices.Clone(pools)
	s.nets.Store(newNetworks(s.o.Subnets, s.o.Pools))
}

// quietTime is how long an alarm stands after its cause was seen.
const quietTime = time.Minute

// Ready is closed once the leases are loaded: before that nobody knows which
// machine has which address.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run loads the leases, listens, and answers until ctx is done. It fails when
// it cannot listen or a socket breaks.
func (s *Server) Run(ctx context.Context) error {
	if err := s.refresh(); err != nil {
		return fmt.Errorf("read addresses of interfaces: %w", err)
	}
	leases, err := s.load(ctx)
	if err != nil {
		return err
	}
	close(s.ready)

	main, err := listen(ctx, serverPort)
	if err != nil {
		return err
	}
	defer main.close()
	proxy, err := listen(ctx, proxyPort)
	if err != nil {
		return err
	}
	defer proxy.close()
	s.o.Log.InfoContext(ctx, "dhcp server started", "leases", leases)
	return s.serve(ctx, main, proxy)
}

// refresh reads the addresses of our interfaces.
func (s *Server) refresh() error {
	if _, err := s.links.Refresh(); err != nil {
		return err
	}
	s.book.reconfigure(s.links.Owned())
	return nil
}

// loadEach is how many leases go from the disk to the book at a time.
const loadEach = 1024

// load reads the leases, and returns how many there were. Reading them and
// entering them take as long as each other: with two cores both go on at once.
func (s *Server) load(ctx context.Context) (n int, err error) {
	read, entered := make(chan []fleet.Lease, 4), make(chan []fleet.Lease, 4)
	for range cap(entered) {
		entered <- make([]fleet.Lease, 0, loadEach)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for some := range read {
			for i := range some {
				s.book.load(some[i], !s.isKnown(some[i].MAC))
			}
			n += len(some)
			entered <- some[:0]
		}
	}()
	some := <-entered
	err = s.o.Leases.EachLease(ctx, func(l fleet.Lease) {
		if some = append(some, l); len(some) == loadEach {
			read <- some
			some = <-entered
		}
	})
	read <- some
	close(read)
	<-done
	if err != nil {
		return 0, fmt.Errorf("load leases: %w", err)
	}
	return n, nil
}

// serve runs the loops until ctx is done or one of them fails.
func (s *Server) serve(ctx context.Context, main, proxy *socket) error {
	g, ctx := errgroup.WithContext(ctx)
	send := func(out []reply) { s.send(main, out) }
	c := newCommitter(s, send)
	if err := s.startProber(ctx, g, send, c); err != nil {
		s.o.Log.WarnContext(ctx, "addresses not probed before they are offered", "err", err)
	}
	g.Go(func() error { c.Run(ctx); return nil })
	for _, sock := range []*socket{main, proxy} {
		g.Go(func() error { return s.loop(ctx, sock, c) })
		g.Go(func() error { <-ctx.Done(); sock.close(); return nil })
	}
	g.Go(func() error { s.links.Follow(ctx, s.o.Log, s.book.reconfigure); return nil })
	g.Go(func() error { usage.Watch(ctx, s.alarms, s.book.use); return nil })
	g.Go(func() error { return s.watch.Run(ctx) })
	return g.Wait()
}

// startProber begins to ask addresses whether somebody is there. A server that
// may not open such sockets offers without asking.
func (s *Server) startProber(ctx context.Context, g *errgroup.Group, send func([]reply), c *committer) error {
	w, err := openWire()
	if err != nil {
		return err
	}
	s.prober = newProber(s, send, c, w)
	g.Go(func() error { s.prober.run(ctx); return nil })
	g.Go(func() error { w.listen(ctx, &s.stats.probeForged); return nil })
	g.Go(func() error { <-ctx.Done(); return w.close() })
	return nil
}

// loop reads packets in batches and answers them. An answer that needs a lease
// on disk goes to the committer, the others leave with the batch.
func (s *Server) loop(ctx context.Context, sock *socket, c *committer) error {
	in, out, sc, gate := newBatch(), make([]reply, 0, batchSize), new(scene), newGate()
	for {
		n, err := sock.read(in)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // we closed it
			}
			return fmt.Errorf("read DHCP packets: %w", err)
		}
		out = out[:0]
		now := s.book.instant()
		for i := range n {
			packet, from := in.Packet(i), sock.arrival(in, i)
			if !gate.allow(packet, now) {
				s.stats.limited.Add(1)
				continue
			}
			r, ok := s.handle(sc, packet, from)
			switch {
			case !ok:
			case r.probe != nil:
				s.prober.add(r, packet, from, 0)
			case r.lease.State != "":
				s.commit(c, r)
			default:
				out = append(out, r)
			}
		}
		s.send(sock, out)
	}
}

func (s *Server) send(sock *socket, out []reply) {
	if failed, err := sock.write(out); err != nil {
		s.stats.sendError.Add(int64(failed))
		s.o.Log.Debug("dhcp answers not sent", "count", failed, "err", err)
	}
}

// handle answers a packet as it comes.
func (s *Server) handle(sc *scene, b []byte, a arrival) (reply, bool) {
	s.stats.received.Add(1)
	return s.react(sc, b, a)
}

// react is the boundary that no packet crosses: whatever it does to us, the
// next one is served.
func (s *Server) react(sc *scene, b []byte, a arrival) (r reply, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
			s.o.Log.Error("dhcp packet made us panic", "panic", p, "packet", fmt.Sprintf("%x", b), "stack", string(debug.Stack()))
			r, ok = reply{}, false
		}
	}()
	if err := sc.parse(b, a); err != nil {
		s.stats.malformed.Add(1)
		s.o.Log.Debug("dhcp packet dropped", "from", a.from, "err", err)
		return reply{}, false
	}
	r, ok = s.answer(sc)
	if !ok {
		s.stats.ignored.Add(1)
	}
	return r, ok
}
