package dhcp6

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/dhcp/alarm"
	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
	"github.com/rackstage/provision/internal/throttle"
)

// A Server answers DHCPv6 requests, and advertises itself as far as it is a
// router.
type Server struct {
	o      Options
	id     []byte // our DUID
	stats  counters
	links  *links.Table
	book   *book
	ready  chan struct{} // closed when the leases are loaded
	alarms *alarm.Board
	gate   *throttle.Gate[source] // of the loop
	saving sync.Mutex

	subnetMu sync.RWMutex
	subnets  []fleet.Subnet // of both families
	moved    chan struct{}  // closed when they change
}

// DUID is how a server with this ID names itself to clients.
func DUID(id [16]byte) []byte { return append([]byte{0, duidUUID}, id[:]...) }

// New returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, id: DUID(o.ServerID), links: links.New(o.Interfaces, bothFamilies),
		book: newBook(o.Now), ready: make(chan struct{}), moved: make(chan struct{}),
		alarms: alarm.New(o.Alarms, o.Now, fleet.AlarmHold),
		gate:   throttle.NewGate[source](gateBurst, gateEvery),
	}
	s.SetSubnets(o.Subnets)
	return s, nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats { return s.stats.stats() }

// LeaseByAddr returns the lease that holds an address now.
func (s *Server) LeaseByAddr(addr netip.Addr) (fleet.Lease6, bool) {
	return s.book.leaseByAddr(addr.WithZone(""))
}

// Gave reports whether a client has an address from us, or had it last.
func (s *Server) Gave(addr netip.Addr) bool { return s.book.gave(addr.WithZone("")) }

// SetSubnets changes what is served, from the next packet on. Leases stay.
func (s *Server) SetSubnets(subnets []fleet.Subnet) {
	subnets = slices.Clone(subnets)
	s.book.configure(subnets, s.links.Owned(), func() {
		s.subnetMu.Lock()
		defer s.subnetMu.Unlock()
		s.subnets = subnets
		close(s.moved)
		s.moved = make(chan struct{})
	})
	s.forgetRelays()
}

func (s *Server) declared() []fleet.Subnet {
	s.subnetMu.RLock()
	defer s.subnetMu.RUnlock()
	return s.subnets
}

// bothFamilies: advertisements depend on IPv4 addresses too.
func bothFamilies(netip.Addr) bool { return true }

// Ready is closed once the leases are loaded: before that nobody knows which
// machine has which address.
func (s *Server) Ready() <-chan struct{} { return s.ready }

const (
	nameDHCP   = "DHCPv6"
	nameRouter = "router advertisements"
)

// Run loads the leases, listens, and answers until ctx is done. It fails when
// it cannot load them. As long as it cannot listen it tries again.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.links.Refresh(); err != nil {
		return fmt.Errorf("read addresses of interfaces: %w", err)
	}
	s.book.reconfigure(s.links.Owned())
	if err := s.load(ctx); err != nil {
		return err
	}
	close(s.ready)

	var g errgroup.Group
	g.Go(func() error { s.links.Follow(ctx, s.o.Log, s.book.reconfigure); return nil })
	g.Go(func() error { usage.Watch(ctx, s.alarms, s.book.use); return nil })
	g.Go(func() error { s.forget(ctx); return nil })
	g.Go(func() error { s.keep(ctx, nameDHCP, s.serve); return nil })
	g.Go(func() error { s.keep(ctx, nameRouter, s.route); return nil })
	return g.Wait()
}

// load reads the leases.
func (s *Server) load(ctx context.Context) error {
	leases, err := s.o.Leases.Leases6(ctx)
	if err != nil {
		return fmt.Errorf("load leases: %w", err)
	}
	for _, l := range leases {
		s.book.load(l, !s.isKnown(l.MAC))
	}
	return nil
}

// serve answers DHCPv6 requests, once there is a subnet to answer them for,
// until ctx is done or the socket breaks.
func (s *Server) serve(ctx context.Context) error {
	if err := s.await6(ctx); err != nil {
		return err
	}
	sock, err := listen(ctx)
	if err != nil {
		return err
	}
	defer sock.close()
	s.up(nameDHCP)
	s.o.Log.InfoContext(ctx, "dhcpv6 server started")
	g, ctx := errgroup.WithContext(ctx)
	c := newCommitter(s, func(out []reply) { s.send(sock, out) })
	g.Go(func() error { c.Run(ctx); return nil })
	g.Go(func() error { return s.loop(ctx, sock, c) })
	g.Go(func() error { <-ctx.Done(); sock.close(); return nil })
	g.Go(func() error { s.follow(ctx, sock); return nil })
	err = g.Wait()
	c.Abandon()
	return err
}

// follow keeps the socket in the multicast groups of our interfaces.
func (s *Server) follow(ctx context.Context, sock *socket) {
	join := func() {
		wanted := make(map[int]bool)
		for _, l := range s.links.All() {
			wanted[l.Index] = l.Local.IsValid() // without one there is no IPv6 on it
		}
		sock.joined.follow(sock.batch, wanted, allServers, allSiteServers)
	}
	join()
	repeat.Every(ctx, time.Second, join)
}

// loop reads packets in batches and answers them. An answer that needs leases
// on disk goes to the committer, the others leave with the batch.
func (s *Server) loop(ctx context.Context, sock *socket, c *committer) error {
	in, out := newBatch(), make([]reply, 0, batchSize)
	for {
		n, err := sock.read(in)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // we closed it
			}
			return fmt.Errorf("read DHCPv6 packets: %w", err)
		}
		out = out[:0]
		for i := range n {
			r, ok := s.handle(in[i].Buffers[0][:in[i].N], arrivalOf(&in[i]))
			switch {
			case !ok:
			case len(r.leases) > 0:
				if !c.Add(r) {
					s.stats.dropped.Add(1)
				}
			default:
				s.stats.replies.Add(1)
				out = append(out, r)
			}
		}
		s.send(sock, out)
	}
}

func (s *Server) send(sock *socket, out []reply) {
	if failed, err := sock.write(out); err != nil {
		s.stats.sendError.Add(int64(failed))
		s.o.Log.Debug("dhcpv6 answers not sent", "count", failed, "err", err)
	}
}

// handle is the boundary that no packet crosses: whatever it does to us, the
// next one is served.
func (s *Server) handle(b []byte, a arrival) (r reply, ok bool) {
	var q query
	defer func() {
		if p := recover(); p != nil {
			s.stats.panics.Add(1)
			s.book.stored(q.taken, false)
			s.o.Log.Error("dhcpv6 packet made us panic", "panic", p, "packet", fmt.Sprintf("%x", b), "stack", string(debug.Stack()))
			r, ok = reply{}, false
		}
	}()
	s.stats.received.Add(1)
	if !s.gate.Allow(sourceOf(b, a.from.Addr()), time.Duration(s.o.Now().UnixNano())) {
		s.stats.limited.Add(1)
		return reply{}, false
	}
	var err error
	if q, err = parseQuery(b, a); err != nil {
		s.stats.malformed.Add(1)
		s.o.Log.Debug("dhcpv6 packet dropped", "from", a.from, "err", err)
		return reply{}, false
	}
	r, ok = s.answer(&q)
	r.leases = q.taken
	if !ok {
		s.stats.ignored.Add(1)
		s.book.stored(r.leases, false) // built, but too long to be sent
		return reply{}, false
	}
	return r, true
}
