package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

// The load of all other figures is our own. perfdhcp is Kea's: it begins so many
// exchanges a second, whether they are answered or not, and counts those that are
// dropped as soon as an answer takes a second. So it is tried at rates that no
// server, on one core beside it, keeps up with, and the one counts at which most
// exchanges came to their end.

// perfRates are exchanges that begin in a second.
func perfRates() []int { return []int{2000, 4000, 6000, 8000, 12_000, 16_000, 24_000, 32_000} }

// perfExchanges lets ours and Kea take turns under perfdhcp.
func (b *bench) perfExchanges(ctx context.Context) ([]figure.Figure, error) {
	results := map[string][]perfRun{}
	byName := map[string]dhcpServer{
		"provision":   {"provision", startProvision},
		"kea-memfile": {"kea-memfile", startKea},
	}
	missing, err := b.alternate(ctx, min(b.rounds, 3), []string{"provision", "kea-memfile"}, func(round int, name string) error {
		r, err := b.perfRound(ctx, byName[name])
		if err != nil {
			return err
		}
		b.say("dhcp perfdhcp, round %d, %s: most %s", round+1, name, r)
		results[name] = append(results[name], r)
		return nil
	})
	return perfFigures(results, missing["kea-memfile"]), err
}

// perfRound starts a server afresh and returns the run in which it did most.
func (b *bench) perfRound(ctx context.Context, s dhcpServer) (best perfRun, err error) {
	if _, err := b.peer("perfdhcp"); err != nil {
		return best, err
	}
	l, err := b.newLink(ctx, "p", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return best, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	dir, err := b.tempDir(s.name)
	if err != nil {
		return best, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := s.start(ctx, l, dir)
	if err != nil {
		return best, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := l.dhcpUp(ctx, p); err != nil {
		return best, err
	}
	for _, rate := range perfRates() {
		r, err := l.perfdhcp(ctx, p, rate, time.Duration(max(1000, b.scale(3000)))*time.Millisecond)
		if err != nil {
			return best, errors.Join(err, p.alive())
		}
		b.say("dhcp perfdhcp, %s: %s", s.name, r)
		if r.acked > best.acked {
			best = r
		}
	}
	if best.acked == 0 {
		return best, errors.New("no exchange came to its end")
	}
	return best, nil
}

// A perfRun is what perfdhcp counted at one rate.
type perfRun struct {
	rate    int // exchanges that were to begin in a second
	seconds float64
	begun   int // DISCOVERs: fewer, when perfdhcp itself does not keep up
	acked   int
	dropped int     // DISCOVERs and REQUESTs that were not answered within a second
	cpu     float64 // microseconds of the server for each ACK
}

func (r perfRun) perSecond() float64 { return float64(r.acked) / r.seconds }

// share is how much of what was begun was dropped, in percent.
func (r perfRun) share() float64 { return 100 * float64(r.dropped) / float64(max(1, r.begun)) }

func (r perfRun) String() string {
	return fmt.Sprintf("at %d/s: %.0f/s, %.1f us CPU, %d of %.0f begun, %d dropped", r.rate, r.perSecond(), r.cpu, r.begun, float64(r.rate)*r.seconds, r.dropped)
}

// perfdhcp puts a server under its load, from the clients' namespace. It gives
// itself out for a relay.
func (l *link) perfdhcp(ctx context.Context, p *process, rate int, long time.Duration) (r perfRun, err error) {
	tool, err := l.b.peer("perfdhcp")
	if err != nil {
		return r, err
	}
	before, err := p.cpu()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, long+30*time.Second)
	defer cancel()
	seconds := strconv.FormatFloat(long.Seconds(), 'f', -1, 64)
	args := slices.Concat([]string{"netns", "exec", l.client}, l.b.on(loadCPU), []string{
		tool.path, "-4", "-l", clientIface, "-r", strconv.Itoa(rate), "-p", seconds, "-R", "16000000", // clients, by lot
		"-W", "1000000", "-g", "multi", dhcpServerAddr.Addr().String(), // answers are waited for; they are read while it sends
	})
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Env = append(os.Environ(), tool.env...)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	const notAllDone = 3
	if err != nil && (!errors.As(err, &ended) || ended.ExitCode() != notAllDone) {
		return r, fmt.Errorf("perfdhcp: %w: %s", err, out)
	}
	after, err := p.cpu()
	if err != nil {
		return r, err
	}
	if r, err = readPerfdhcp(string(out)); err != nil {
		return r, err
	}
	r.rate, r.seconds = rate, long.Seconds()
	r.cpu = float64((after - before).Microseconds()) / float64(max(1, r.acked))
	return r, nil
}

// readPerfdhcp reads its report: a part for each half of an exchange.
func readPerfdhcp(text string) (r perfRun, err error) {
	for half, counts := range map[string]map[string]*int{
		"DISCOVER-OFFER": {"sent packets": &r.begun, "drops": new(int)},
		"REQUEST-ACK":    {"received packets": &r.acked, "drops": new(int)},
	} {
		_, part, there := strings.Cut(text, "***Statistics for: "+half+"***")
		part, _, _ = strings.Cut(part, "***")
		for name, to := range counts {
			_, value, found := strings.Cut(part, "\n"+name+": ")
			value, _, _ = strings.Cut(value, "\n")
			n, err := strconv.Atoi(value)
			if !there || !found || err != nil {
				return r, fmt.Errorf("perfdhcp does not say %q of %s: %q", name, half, text)
			}
			*to = n
		}
		r.dropped += *counts["drops"]
	}
	return r, nil
}

func perfFigures(results map[string][]perfRun, missing string) []figure.Figure {
	make := func(name, what, unit string, value func(perfRun) float64) figure.Figure {
		f := figure.Figure{Name: "dhcp-perfdhcp" + name, What: "DHCP, load of perfdhcp: " + what + " / kea-memfile", Unit: unit, Missing: missing}
		return besideKea(f, results, value)
	}
	return []figure.Figure{
		make("", "durable exchanges/s", "exch/s", perfRun.perSecond),
		make("-cpu", "CPU per exchange", "us/exch", func(r perfRun) float64 { return r.cpu }),
		make("-dropped", "of exchanges begun, dropped", "%", perfRun.share),
	}
}
