package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rackstage/provision/internal/figure"
)

// pxeLoader is what UEFI gets where nothing else is said.
const pxeLoader = "ipxe.efi"

// pxeExchanges measures exchanges of firmware that wants to boot. The exchanges
// of the other figures are of clients that want an address and nothing else; here
// the server decides what each machine boots, names it, and keeps it as evidence of
// the machine. Kea, beside it, has a class that names a file.
func (b *bench) pxeExchanges(ctx context.Context, inFlight int) ([]figure.Figure, error) {
	results := map[string][]dhcpRound{}
	byName := map[string]dhcpServer{
		"provision":   {"provision", startProvisionPXE},
		"kea-memfile": {"kea-memfile", startKeaPXE},
	}
	missing, err := b.alternate(ctx, min(b.rounds, 3), []string{"provision", "kea-memfile"}, func(round int, name string) error {
		r, err := b.pxeRound(ctx, byName[name], inFlight)
		if err != nil {
			return err
		}
		b.say("dhcp pxe %d in flight, round %d, %s: %.0f/s, %.1f us CPU, p50 %.1f p99 %.1f ms, %d lost, %d without a file, %s", inFlight, round+1, name, r.rate(), r.cpu, r.P50, r.P99, r.Lost, r.NoFile, r.merged)
		results[name] = append(results[name], r)
		return nil
	})
	return pxeFigures(inFlight, results, missing["kea-memfile"]), err
}

func (b *bench) pxeRound(ctx context.Context, s dhcpServer, inFlight int) (r dhcpRound, err error) {
	dir, err := b.tempDir(s.name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, _, err = b.dhcpRun(ctx, s, dir, exchangeArgs{InFlight: inFlight, For: b.measured(s), FirstClient: 1 << 20, Firmware: true})
	if err == nil && r.NoFile > 0 {
		err = fmt.Errorf("%d of %d answers name no boot file", r.NoFile, r.Done)
	}
	return r, err
}

// startProvisionPXE has the loader that it names: it names none that is missing.
func startProvisionPXE(ctx context.Context, l *link, dir string) (*process, error) {
	boot := filepath.Join(dir, "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(boot, pxeLoader), make([]byte, 1<<20), 0o600); err != nil {
		return nil, err
	}
	return startProvision(ctx, l, dir)
}

// besideKea fills in the rounds of our server and of Kea.
func besideKea[R any](f figure.Figure, results map[string][]R, value func(R) float64) figure.Figure {
	f.Peer = "kea-memfile"
	for _, r := range results["provision"] {
		f.Rounds = append(f.Rounds, value(r))
	}
	for _, r := range results[f.Peer] {
		f.PeerRounds = append(f.PeerRounds, value(r))
	}
	return f
}

func pxeFigures(inFlight int, results map[string][]dhcpRound, missing string) []figure.Figure {
	make := func(name, what, unit string, value func(dhcpRound) float64) figure.Figure {
		f := figure.Figure{
			Name: fmt.Sprintf("dhcp-pxe%s-%d", name, inFlight), What: fmt.Sprintf("DHCP of PXE firmware, %d in flight: %s / kea-memfile", inFlight, what),
			Unit: unit, Missing: missing,
		}
		return besideKea(f, results, value)
	}
	return []figure.Figure{
		make("", "durable exchanges/s", "exch/s", func(r dhcpRound) float64 { return r.rate() }),
		make("-cpu", "CPU per exchange", "us/exch", func(r dhcpRound) float64 { return r.cpu }),
	}
}
