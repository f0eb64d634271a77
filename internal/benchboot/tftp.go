package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

var (
	tftpServerAddr = netip.MustParsePrefix("10.0.0.1/24")
	tftpClientAddr = netip.MustParsePrefix("10.0.0.2/24")
)

// A tftpCase is one thing that clients do.
type tftpCase struct {
	name      string
	roundTrip time.Duration // 0: as quick as the machine is
	loss      float64
	load      fetchArgs
	only      []string // servers that take part; nil: all
}

const (
	tftpBig   = 1 << 20
	tftpSmall = 128 << 10
)

// tftpCases are the same for all servers. Without a number of transfers they
// go on for some seconds.
func (b *bench) tftpCases() []tftpCase {
	ms := time.Millisecond
	secs := func(n int) time.Duration { return time.Duration(b.scale(n*1000)) * ms }
	big := func(window, clients, transfers int, d time.Duration) fetchArgs {
		return fetchArgs{File: "boot.bin", Size: tftpBig, Block: 1428, Window: window, Clients: clients, Transfers: transfers, For: d}
	}
	return []tftpCase{
		{"w16-1ms", ms, 0, big(16, 1, b.scale(20), 0), []string{"provision", "tftpd-hpa"}},
		{"w64-1ms", ms, 0, big(64, 1, b.scale(20), 0), []string{"provision", "tftpd-hpa"}},
		{"loss-w16", ms, 0.005, big(16, 4, max(4, b.scale(40)), 0), []string{"provision"}},
		{"loss-lockstep", ms, 0.005, big(1, 4, max(4, b.scale(12)), 0), []string{"provision", "dnsmasq"}},
		{"1000", 0, 0, fetchArgs{File: "small.bin", Size: tftpSmall, Block: 1428, Window: 1, Clients: 1000, For: max(secs(8), 3*time.Second)}, nil},
		{"alone", 0, 0, big(1, 1, 0, max(secs(3), 2*time.Second)), nil},
	}
}

// tftpSection measures reads: with and without windows, alone and by the
// thousand, with latency and losses.
func tftpSection(ctx context.Context, b *bench) ([]figure.Figure, error) {
	dir, err := b.tempDir("tftp")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "boot"), 0o755); err != nil { //nolint:gosec // in.tftpd serves what all may read
		return nil, err
	}
	for name, size := range map[string]int{"boot.bin": tftpBig, "small.bin": tftpSmall} {
		if err := os.WriteFile(filepath.Join(dir, "boot", name), tftpBytes(size), 0o644); err != nil { //nolint:gosec // as above
			return nil, err
		}
	}
	results := tftpResults{rounds: map[string][]tftpRound{}, missing: map[string]string{}}
	var errs []error
	for _, c := range b.tftpCases() {
		if err := b.tftpCase(ctx, c, dir, results); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return results.figures(), errors.Join(errs...)
}

// A tftpRound is what one server did in one round.
type tftpRound struct {
	fetched
	cpu float64 // seconds per GB
}

type tftpResults struct {
	rounds  map[string][]tftpRound // by case and server
	missing map[string]string      // by server, why
}

// tftpCase lets the servers take turns.
func (b *bench) tftpCase(ctx context.Context, c tftpCase, dir string, results tftpResults) error {
	start := map[string]func(context.Context, *link, string) (*process, error){}
	names := c.only
	for _, s := range tftpServers() {
		start[s.name] = s.start
		if c.only == nil {
			names = append(names, s.name)
		}
	}
	missing, err := b.alternate(ctx, b.rounds, names, func(round int, name string) error {
		r, err := b.tftpRound(ctx, c, start[name], dir)
		if err != nil {
			return err
		}
		b.say("tftp %s, round %d, %s: %.1f MB/s, %.2f CPU s/GB, p50 %.3f p99 %.3f s, %d done, %d failed, %d wrong, window %d, %d of %d packets repeated",
			c.name, round+1, name, r.rate(), r.cpu, r.P50, r.P99, r.Done, r.Failed, r.Wrong, r.Granted, r.Repeats, r.Packets)
		results.rounds[c.name+" "+name] = append(results.rounds[c.name+" "+name], r)
		return nil
	})
	maps.Copy(results.missing, missing)
	return err
}

// tftpRound starts a server afresh and has clients load from it.
func (b *bench) tftpRound(ctx context.Context, c tftpCase, start func(context.Context, *link, string) (*process, error), files string) (r tftpRound, err error) {
	l, err := b.tftpLink(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	dir, err := b.tempDir("tftp-server")
	if err != nil {
		return r, err
	}
	if err := os.Symlink(filepath.Join(files, "boot"), filepath.Join(dir, "boot")); err != nil {
		return r, err
	}
	p, err := start(ctx, l, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	one := fetchArgs{Server: tftpServerAddr.Addr(), File: "small.bin", Size: tftpSmall, Block: 1428, Clients: 1, Transfers: 1}
	err = poll(ctx, 20*time.Second, func() error {
		var up fetched
		one.FirstClient++
		return errors.Join(p.alive(), l.load(ctx, 15*time.Second, "tftp", one, &up))
	})
	if err != nil {
		return r, err
	}
	before, err := p.cpu()
	if err != nil {
		return r, err
	}
	c.load.Server, c.load.FirstClient = tftpServerAddr.Addr(), 1<<12
	if err := l.load(ctx, 5*time.Minute, "tftp", c.load, &r.fetched); err != nil {
		return r, errors.Join(err, p.alive())
	}
	after, err := p.cpu()
	r.cpu = (after - before).Seconds() / float64(r.Bytes) * 1e9
	return r, err
}

// tftpLink joins the server to a network of clients with many addresses.
func (b *bench) tftpLink(ctx context.Context, c tftpCase) (l *link, err error) {
	if c.roundTrip > 0 || c.loss > 0 {
		l, err = b.newSlowLink(ctx, "t", tftpServerAddr, tftpClientAddr, c.roundTrip, c.loss)
	} else {
		l, err = b.newLink(ctx, "t", tftpServerAddr, tftpClientAddr)
	}
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		ip(ctx, "-n", l.server, "route", "add", tftpClients.String(), "via", tftpClientAddr.Addr().String()),
		ip(ctx, "-n", l.client, "route", "add", "local", tftpClients.String(), "dev", "lo"))
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (t tftpResults) figures() []figure.Figure {
	of := func(key string, value func(tftpRound) float64) (values []float64) {
		for _, r := range t.rounds[key] {
			values = append(values, value(r))
		}
		return values
	}
	make := func(name, c, what, unit, aim, peer string, value func(tftpRound) float64) figure.Figure {
		if peer != "" {
			what += " / " + peer
		}
		return figure.Figure{
			Name: "tftp-" + name, What: "TFTP " + what, Unit: unit, Aim: aim, Rounds: of(c+" provision", value),
			Peer: peer, PeerRounds: of(c+" "+peer, value), Missing: t.missing[peer],
		}
	}
	rate := func(r tftpRound) float64 { return r.rate() }
	cpu := func(r tftpRound) float64 { return r.cpu }
	p50 := func(r tftpRound) float64 { return r.P50 }
	return []figure.Figure{
		make("w16-1ms", "w16-1ms", "1 MiB, 1 ms, windowsize 16", "MB/s", ">=10x", "tftpd-hpa", rate),
		make("w64-1ms", "w64-1ms", "1 MiB, 1 ms, windowsize 64", "MB/s", ">=20x", "tftpd-hpa", rate),
		make("loss-w16-p50", "loss-w16", "1 MiB, 0.5 % loss, windowsize 16, p50", "s", "<=0.2", "", p50),
		make("loss-lockstep", "loss-lockstep", "1 MiB, 0.5 % loss, lock-step, p50", "s", "<=0.5x", "dnsmasq", p50),
		make("1000", "1000", "1,000 clients, lock-step", "MB/s", ">=3x", "tftpd-hpa", rate),
		make("1000-cpu", "1000", "1,000 clients, CPU per byte", "s/GB", "<=0.5x", "tftpd-hpa", cpu),
		make("1000-dnsmasq", "1000", "1,000 clients, lock-step", "MB/s", ">=0.9x", "dnsmasq", rate),
		make("alone", "alone", "one client, lock-step", "MB/s", ">=1x", "tftpd-hpa", rate),
		{Name: "tftp-failed", What: "TFTP transfers that failed or brought something else", Unit: "transfers", Aim: "<=0", Rounds: t.failed()},
	}
}

// failed counts the transfers of ours that failed, or brought another content.
func (t tftpResults) failed() []float64 {
	if len(t.rounds) == 0 {
		return nil
	}
	total := 0
	for key, rounds := range t.rounds {
		if !strings.HasSuffix(key, " provision") {
			continue
		}
		for _, r := range rounds {
			total += r.Failed + r.Wrong
		}
	}
	return []float64{float64(total)}
}
