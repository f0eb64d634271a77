package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/sockbuf"
)

// syncedFile stores leases as the store does, as far as the disk is
// concerned: it appends them and waits until they are there.
type syncedFile struct {
	mu    sync.Mutex
	f     *os.File
	syncs int
}

func (s *syncedFile) EachLease(context.Context, func(fleet.Lease)) error { return nil }

func (s *syncedFile) SaveLeases(_ context.Context, leases []fleet.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for _, l := range leases {
		b = fmt.Appendf(b, "%s %s %s %d\n", l.Addr, l.MAC, l.State, l.Expires.UnixNano())
	}
	s.syncs++
	if _, err := s.f.Write(b); err != nil {
		return err
	}
	return unix.Fdatasync(int(s.f.Fd()))
}

// BenchmarkDurableExchange measures four-way exchanges over a real link, each
// lease on disk before its ACK, with a new client each time.
func BenchmarkDurableExchange(b *testing.B) {
	if !inNamespace(b) {
		return
	}
	run(b, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "relay0")
	run(b, "ip", "addr", "add", "10.0.0.1/8", "dev", "rack0")
	run(b, "ip", "link", "set", "rack0", "up")
	f, err := os.Create(filepath.Join(b.TempDir(), "leases"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	store := &syncedFile{f: f}
	n := rackSubnet(fleet.Full)
	n.CIDR = netip.MustParsePrefix("10.0.0.0/8")
	n.NoProbe = true // the relay answers for nobody: each probe would take its whole time
	n.Ranges[0] = fleet.AddrRange{First: netip.MustParseAddr("10.1.0.0"), Last: netip.MustParseAddr("10.99.255.255")}
	startServer(b, Options{Subnets: []fleet.Subnet{n}, Nodes: knownNodes{}, Leases: store})
	elsewhere(b, "relay0", func() error {
		if err := ipHere("addr", "add", "10.0.0.2/8", "dev", "relay0"); err != nil {
			return err
		}
		if err := ipHere("link", "set", "relay0", "up"); err != nil {
			return err
		}
		for _, inFlight := range []int{1, 64, 256} {
			store.syncs = 0
			g := generator{inFlight: inFlight, total: min(20_000, inFlight*500)}
			if err := g.run(); err != nil {
				return err
			}
			rate := float64(g.total) / g.took.Seconds()
			slices.Sort(g.times)
			_, _ = fmt.Fprintf(os.Stdout, "FIGURE dhcp-durable-%d %.0f exch/s - - aim - OK\n", inFlight, rate)
			_, _ = fmt.Fprintf(os.Stdout, "# dhcp-durable-%d: %d exchanges, p50 %s p99 %s, %.1f leases a sync\n", inFlight, g.total,
				g.times[len(g.times)/2].Round(10*time.Microsecond), g.times[len(g.times)*99/100].Round(10*time.Microsecond),
				float64(g.total)/float64(max(store.syncs, 1)))
			b.ReportMetric(rate, fmt.Sprintf("exch%d/s", inFlight))
		}
		return nil
	})
}

// A generator is a relay with many clients behind it. It patches ready-made
// packets: it has to cost less than the server.
type generator struct {
	inFlight, total int
	took            time.Duration
	times           []time.Duration

	conn      *net.UDPConn
	discovers []byte
	requests  []byte
	wantedAt  int
	started   []time.Time
}

var nextClient uint32 // each exchange of all runs has a client of its own

const (
	xidAt, yiaddrAt, chaddrAt = 4, 16, 28
)

// kindIn finds option 53.
func kindIn(options []byte) byte {
	for len(options) > 2 && options[0] != 255 {
		if options[0] == 53 {
			return options[2]
		}
		options = options[min(2+int(options[1]), len(options)):]
	}
	return 0
}

func (g *generator) prepare() error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: serverPort}, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: serverPort})
	if err != nil {
		return err
	}
	g.conn = c
	if err := sockbuf.Grow(c); err != nil {
		return err
	}
	g.discovers = packet(macA, discover, relayed("10.0.0.2")).ToBytes()
	g.requests = packet(macA, request, relayed("10.0.0.2"), wants("10.255.254.253"), chooses("10.0.0.1")).ToBytes()
	g.wantedAt = bytes.Index(g.requests, []byte{50, 4, 10, 255, 254, 253}) + 2
	g.started = make([]time.Time, g.total)
	if g.wantedAt < 2 {
		return errors.New("no option 50")
	}
	return nil
}

func (g *generator) run() error {
	if err := g.prepare(); err != nil {
		return err
	}
	defer func() { _ = g.conn.Close() }()
	base := nextClient
	nextClient += uint32(g.total)
	begin := time.Now()
	next := 0
	for ; next < min(g.inFlight, g.total); next++ {
		g.discover(base, next)
	}
	b := make([]byte, 2048)
	for done := 0; done < g.total; {
		if done%1000 == 0 {
			_ = g.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		}
		n, err := g.conn.Read(b)
		if err != nil || n < 300 {
			return fmt.Errorf("after %d of %d exchanges: %d bytes, %w", done, g.total, n, err)
		}
		i := int(binary.BigEndian.Uint32(b[xidAt:]) - base)
		switch kindIn(b[240:n]) {
		case byte(offer):
			copy(g.requests[xidAt:], b[xidAt:xidAt+4])
			copy(g.requests[chaddrAt:], b[chaddrAt:chaddrAt+6])
			copy(g.requests[g.wantedAt:], b[yiaddrAt:yiaddrAt+4])
			_, _ = g.conn.Write(g.requests)
		case byte(ack):
			g.times = append(g.times, time.Since(g.started[i]))
			done++
			if next < g.total {
				g.discover(base, next)
				next++
			}
		}
	}
	g.took = time.Since(begin)
	return nil
}

func (g *generator) discover(base uint32, i int) {
	id := base + uint32(i)
	binary.BigEndian.PutUint32(g.discovers[xidAt:], id)
	binary.BigEndian.PutUint32(g.discovers[chaddrAt+2:], id)
	g.started[i] = time.Now()
	_, _ = g.conn.Write(g.discovers)
}
