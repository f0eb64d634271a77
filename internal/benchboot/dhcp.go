package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rackstage/provision/internal/figure"
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
	return all, nil
}

// A dhcpRound is what one server did in one round.
type dhcpRound struct {
	exchanged
	cpu float64 // microseconds per exchange
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
		b.say("dhcp %d in flight, round %d, %s: %.0f/s, %.1f us CPU, p50 %.1f p99 %.1f ms, %d lost, %d twice", inFlight, round+1, name, r.rate(), r.cpu, r.P50, r.P99, r.Lost, r.Twice)
		results[name] = append(results[name], r)
		return nil
	})
	return dhcpFigures(inFlight, results, missing), err
}

// dhcpRound starts a server afresh and puts it under load.
func (b *bench) dhcpRound(ctx context.Context, s dhcpServer, inFlight int) (r dhcpRound, err error) {
	l, err := b.newLink(ctx, "d", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	dir, err := b.tempDir(s.name)
	if err != nil {
		return r, err
	}
	p, err := s.start(ctx, l, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := l.dhcpUp(ctx, p); err != nil {
		return r, err
	}
	return l.measureDHCP(ctx, p, exchangeArgs{InFlight: inFlight, For: time.Duration(b.scale(5000)) * time.Millisecond, FirstClient: 1 << 20})
}

// dhcpUp waits until one whole exchange worked.
func (l *link) dhcpUp(ctx context.Context, p *process) error {
	first := uint32(0)
	return poll(ctx, 20*time.Second, func() error {
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
