package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

var (
	dhcpServerAddr = netip.MustParsePrefix("10.0.0.1/8")
	dhcpRelayAddr  = netip.MustParsePrefix("10.0.0.2/8")
)

// dhcpSection measures four-way exchanges: DISCOVER, OFFER, REQUEST, ACK. The
// aims are for 256 in flight; 64 show what a smaller crowd gets.
func dhcpSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	all, err := b.exchanges(ctx, 256, b.rounds)
	less, errLess := b.exchanges(ctx, 64, min(b.rounds, 3))
	for i := range less {
		if !less[i].Each {
			less[i].Aim = ""
		}
	}
	pxe, errPXE := b.pxeExchanges(ctx, 256)
	perf, errPerf := b.perfExchanges(ctx)
	many, errMany := b.manyLeases(ctx)
	return slices.Concat(all, less, pxe, perf, many), errors.Join(err, errLess, errPXE, errPerf, errMany)
}

// A dhcpRound is what one server did in one round.
type dhcpRound struct {
	exchanged
	cpu    float64 // microseconds per exchange
	merged backlog
}

// exchanges lets all servers that are there take turns.
func (b *bench) exchanges(ctx context.Context, inFlight, rounds int) ([]figure.Figure, error) {
	results := map[string][]dhcpRound{}
	var names []string
	byName := map[string]dhcpServer{}
	for _, s := range dhcpServers() {
		names = append(names, s.name)
		byName[s.name] = s
	}
	missing, err := b.alternate(ctx, rounds, names, func(round int, name string) error {
		r, err := b.dhcpRound(ctx, byName[name], inFlight)
		if err != nil {
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
// journals into its database when it is calm, or a million of them wait; it is
// measured for as long as several journals take. What merging costs meanwhile is
// a figure of its own (dhcp-merging-256).
func (b *bench) measured(s dhcpServer) time.Duration {
	full := 5 * time.Second
	switch s.name {
	case "provision":
		full = 20 * time.Second
	case "kea-memfile":
		full = 10 * time.Second
	}
	if b.quick {
		return max(2*time.Second, full/4)
	}
	return full
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
	if up, err = l.whenUp(ctx, p, began); err != nil {
		return r, up, err
	}
	if r, err = l.measureDHCP(ctx, p, a); err != nil {
		return r, up, err
	}
	r.merged, err = backlogIn(dir)
	return r, up, err
}

// whenUp waits for a server that was started at a time.
func (l *link) whenUp(ctx context.Context, p *process, began time.Time) (up startUp, err error) {
	if err := l.dhcpUp(ctx, p); err != nil {
		return up, err
	}
	up.took = time.Since(began)
	up.cpu, err = p.cpu()
	return up, err
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
	make := func(name, what, unit, aim, peer string, value func(dhcpRound) float64) figure.Figure {
		return figure.Figure{
			Name: fmt.Sprintf("dhcp-%s-%d", name, inFlight), What: fmt.Sprintf("DHCP, %d in flight: %s / %s", inFlight, what, peer),
			Unit: unit, Aim: aim, Rounds: of("provision", value), Peer: peer, PeerRounds: of(peer, value), Missing: missing[peer],
		}
	}
	rate := func(r dhcpRound) float64 { return r.rate() }
	cpu := func(r dhcpRound) float64 { return r.cpu }
	p99 := func(r dhcpRound) float64 { return r.P99 }
	return []figure.Figure{
		make("durable", "durable exchanges/s", "exch/s", ">=3x", "kea-memfile", rate),
		make("cpu", "CPU per exchange", "us/exch", "<=0.35x", "kea-memfile", cpu),
		make("p99", "p99", "ms", "<=1x", "kea-memfile", p99),
		make("durable-dhcpd", "durable exchanges/s", "exch/s", ">=10x", "dhcpd", rate),
		make("durable-dnsmasq", "durable exchanges/s", "exch/s", ">=10x", "dnsmasq", rate),
		{
			Name: fmt.Sprintf("dhcp-given-twice-%d", inFlight), What: fmt.Sprintf("DHCP, %d in flight: addresses given twice", inFlight),
			Unit: "addrs", Aim: "<=0", Each: true, Rounds: of("provision", func(r dhcpRound) float64 { return float64(r.Twice) }),
		},
	}
}
