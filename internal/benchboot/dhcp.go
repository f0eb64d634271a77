package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/figure"
	"github.com/rackstage/provision/store"
)

var (
	dhcpServerAddr = netip.MustParsePrefix("10.0.0.1/8")
	dhcpRelayAddr  = netip.MustParsePrefix("10.0.0.2/8")
)

// dhcpSection measures four-way exchanges: DISCOVER, OFFER, REQUEST, ACK.
func dhcpSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	var all []figure.Figure
	for _, inFlight := range []int{256, 64} {
		figures, err := b.exchanges(ctx, inFlight)
		all = append(all, figures...)
		if err != nil {
			return all, err
		}
	}
	figures, err := b.manyLeases(ctx)
	return append(all, figures...), err
}

// preloaded makes a state folder with so many leases in it.
func (b *bench) preloaded(ctx context.Context, leases int) (dir string, err error) {
	if dir, err = b.tempDir("preloaded"); err != nil {
		return "", err
	}
	s, err := store.Open(ctx, filepath.Join(dir, "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }() //nolint:contextcheck // nothing ends the closing early
	batch := make([]fleet.Lease, 0, 4096)
	expires := time.Now().Add(time.Hour)
	for i := range leases {
		mac := clientMAC(1<<30 + uint32(i))
		batch = append(batch, fleet.Lease{
			Addr: netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}), Subnet: "bench",
			MAC: fleet.MAC(net.HardwareAddr(mac[:]).String()), State: fleet.LeaseBound, Expires: expires,
		})
		if len(batch) == cap(batch) || i == leases-1 {
			if err := s.SaveLeases(ctx, batch); err != nil {
				return "", err
			}
			batch = batch[:0]
		}
	}
	return dir, s.MergeLeases(ctx)
}

// manyLeases compares the server with few leases and with a million, and sees
// how soon it is back with that many.
func (b *bench) manyLeases(ctx context.Context) ([]figure.Figure, error) {
	few, many := figure.Figure{Name: "dhcp-cpu-1k-leases", Unit: "us/exch"}, figure.Figure{
		Name: "dhcp-cpu-1m-leases", Unit: "us/exch", Aim: "<=1.2x", Peer: "1k-leases",
	}
	restart := figure.Figure{Name: "dhcp-restart-1m-leases", Unit: "s", Aim: "<=3"}
	work := figure.Figure{Name: "dhcp-restart-1m-leases-cpu", Unit: "s"}
	into := map[string]*figure.Figure{"1k": &few, "1m": &many}
	state := map[string]string{}
	for name, leases := range map[string]int{"1k": 1000, "1m": 1_000_000} {
		dir, err := b.preloaded(ctx, leases)
		if err != nil {
			return nil, err
		}
		state[name] = dir
	}
	err := b.alternate(ctx, []string{"1k", "1m"}, func(round int, name string) error {
		dir, err := b.tempDir("leases" + name)
		if err != nil {
			return err
		}
		if err := os.CopyFS(dir, os.DirFS(state[name])); err != nil {
			return err
		}
		syscall.Sync() // or the server's first sync has to wait for our copy
		ours := dhcpServer{name: "provision", start: startProvision}
		r, start, err := b.dhcpRun(ctx, ours, dir, exchangeArgs{InFlight: 256, For: b.measured(ours), FirstClient: 1 << 20})
		if err != nil {
			return err
		}
		b.say("dhcp with %s leases, round %d: up in %.2f s (CPU %.2f s), %.0f/s, %.1f us CPU, p99 %.1f ms, %s", name, round+1, start.took.Seconds(), start.cpu.Seconds(), r.rate(), r.cpu, r.P99, r.merged)
		into[name].Rounds = append(into[name].Rounds, r.cpu)
		if name == "1m" {
			restart.Rounds = append(restart.Rounds, start.took.Seconds())
			work.Rounds = append(work.Rounds, start.cpu.Seconds())
		}
		return os.RemoveAll(dir)
	})
	many.PeerRounds = few.Rounds
	return []figure.Figure{few, many, restart, work}, err
}

// A dhcpRound is what one server did in one round.
type dhcpRound struct {
	exchanged
	cpu    float64 // microseconds per exchange
	merged backlog
}

// exchanges lets all servers that are there take turns.
func (b *bench) exchanges(ctx context.Context, inFlight int) ([]figure.Figure, error) {
	results, missing := map[string][]dhcpRound{}, map[string]string{}
	var names []string
	byName := map[string]dhcpServer{}
	for _, s := range dhcpServers() {
		names = append(names, s.name)
		byName[s.name] = s
	}
	err := b.alternate(ctx, names, func(round int, name string) error {
		if missing[name] != "" {
			return nil
		}
		r, err := b.dhcpRound(ctx, byName[name], inFlight)
		var absent *missingError
		switch {
		case errors.As(err, &absent):
			missing[name] = err.Error()
			return nil
		case err != nil:
			return err
		}
		b.say("dhcp %d in flight, round %d, %s: %.0f/s, %.1f us CPU, p50 %.1f p99 %.1f ms, %d lost, %d twice, %s", inFlight, round+1, name, r.rate(), r.cpu, r.P50, r.P99, r.Lost, r.Twice, r.merged)
		results[name] = append(results[name], r)
		return nil
	})
	return dhcpFigures(inFlight, results, missing), err
}

// dhcpRound starts a server afresh and puts it under load.
func (b *bench) dhcpRound(ctx context.Context, s dhcpServer, inFlight int) (r dhcpRound, err error) {
	dir, err := b.tempDir(s.name)
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	r, _, err = b.dhcpRun(ctx, s, dir, exchangeArgs{InFlight: inFlight, For: b.measured(s), FirstClient: 1 << 20})
	return r, err
}

// measured is how long a server is under load. Ours brings leases from its
// journals into its database in the background: what that costs has to be in
// the figures, so it is measured for as long as several journals take.
func (b *bench) measured(s dhcpServer) time.Duration {
	switch {
	case s.brief && b.quick:
		return 2 * time.Second
	case s.brief:
		return 5 * time.Second
	case b.quick:
		return 12 * time.Second
	default:
		return 30 * time.Second
	}
}

// A backlog is how many journals of leases there were, and how many of them are
// in the database.
type backlog struct{ all, merged int }

func (b backlog) String() string {
	if b.all == 0 {
		return "no journals"
	}
	return fmt.Sprintf("%d of %d journals merged", b.merged, b.all)
}

// backlogIn looks into a state folder.
func backlogIn(dir string) (b backlog, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "provision.db-leases-*"))
	for _, f := range files {
		_, number, _ := strings.Cut(filepath.Base(f), "-leases-")
		n, err := strconv.Atoi(number)
		if err != nil {
			return b, err
		}
		b.all = max(b.all, n)
	}
	b.merged = b.all - len(files)
	return b, err
}

// A startUp is what it took until a server had done a whole exchange.
type startUp struct{ took, cpu time.Duration }

// dhcpRun starts a server in a folder and puts it under load.
func (b *bench) dhcpRun(ctx context.Context, s dhcpServer, dir string, a exchangeArgs) (r dhcpRound, up startUp, err error) {
	l, err := b.newLink(ctx, "d", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return r, up, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	began := time.Now()
	p, err := s.start(ctx, l, dir)
	if err != nil {
		return r, up, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := l.dhcpUp(ctx, p); err != nil {
		return r, up, err
	}
	up.took = time.Since(began)
	if up.cpu, err = p.cpu(); err != nil {
		return r, up, err
	}
	if r, err = l.measureDHCP(ctx, p, a); err != nil {
		return r, up, err
	}
	r.merged, err = backlogIn(dir)
	return r, up, err
}

// dhcpUp waits until one whole exchange worked.
func (l *link) dhcpUp(ctx context.Context, p *process) error {
	first := uint32(0)
	return poll(ctx, time.Minute, func() error {
		first++
		var r exchanged
		if err := p.alive(); err != nil {
			return err
		}
		return l.load(ctx, 10*time.Second, "dhcp", exchangeArgs{
			Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 1, For: 50 * time.Millisecond, FirstClient: first << 10,
		}, &r)
	})
}

// measureDHCP puts a server under load and counts what it costs.
func (l *link) measureDHCP(ctx context.Context, p *process, a exchangeArgs) (r dhcpRound, err error) {
	a.Server, a.Relay = dhcpServerAddr.Addr(), dhcpRelayAddr.Addr()
	before, err := p.cpu()
	if err != nil {
		return r, err
	}
	if err := l.load(ctx, a.For+30*time.Second, "dhcp", a, &r.exchanged); err != nil {
		return r, errors.Join(err, p.alive())
	}
	after, err := p.cpu()
	r.cpu = float64((after - before).Microseconds()) / float64(r.Done)
	return r, err
}

func dhcpFigures(inFlight int, results map[string][]dhcpRound, missing map[string]string) []figure.Figure {
	of := func(name string, value func(dhcpRound) float64) (values []float64) {
		for _, r := range results[name] {
			values = append(values, value(r))
		}
		return values
	}
	make := func(name, unit, aim, peer string, value func(dhcpRound) float64) figure.Figure {
		return figure.Figure{
			Name: fmt.Sprintf("dhcp-%s-%d", name, inFlight), Unit: unit, Aim: aim, Rounds: of("provision", value),
			Peer: peer, PeerRounds: of(peer, value), Missing: missing[peer],
		}
	}
	rate := func(r dhcpRound) float64 { return r.rate() }
	cpu := func(r dhcpRound) float64 { return r.cpu }
	p99 := func(r dhcpRound) float64 { return r.P99 }
	return []figure.Figure{
		make("durable", "exch/s", ">=3x", "kea-memfile", rate),
		make("cpu", "us/exch", "<=0.35x", "kea-memfile", cpu),
		make("p99", "ms", "<=1x", "kea-memfile", p99),
		make("durable-dhcpd", "exch/s", ">=10x", "dhcpd", rate),
		make("durable-dnsmasq", "exch/s", ">=10x", "dnsmasq", rate),
		make("given-twice", "addrs", "<=0", "", func(r dhcpRound) float64 { return float64(r.Twice) }),
	}
}
