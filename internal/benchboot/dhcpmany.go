package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/figure"
	"github.com/rackstage/provision/store"
)

// A preload is what a state folder begins with: leases in its database, and
// leases in journals that wait to be merged into it.
type preload struct{ merged, piled int }

var preloads = map[string]preload{
	"1k":      {merged: 1000},
	"1m":      {merged: 1_000_000},
	"1m-pile": {merged: 1_000_000, piled: 1_000_000},
}

// preloaded makes a state folder.
func (b *bench) preloaded(ctx context.Context, p preload) (dir string, err error) {
	if dir, err = b.tempDir("preloaded"); err != nil {
		return "", err
	}
	s, err := store.Open(ctx, filepath.Join(dir, "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }() //nolint:contextcheck // nothing ends the closing early
	if err := saveLeases(ctx, s, 0, p.merged); err != nil {
		return "", err
	}
	if err := s.MergeLeases(ctx); err != nil {
		return "", err
	}
	return dir, saveLeases(ctx, s, p.merged, p.merged+p.piled)
}

// saveLeases stores the leases of clients, in batches.
func saveLeases(ctx context.Context, s *store.Store, from, to int) error {
	batch := make([]fleet.Lease, 0, 4096)
	expires := time.Now().Add(time.Hour)
	for i := from; i < to; i++ {
		mac := clientMAC(1<<30 + uint32(i))
		batch = append(batch, fleet.Lease{
			Addr: netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}), Subnet: "bench",
			MAC: fleet.MAC(net.HardwareAddr(mac[:]).String()), State: fleet.LeaseBound, Expires: expires,
		})
		if len(batch) == cap(batch) || i == to-1 {
			if err := s.SaveLeases(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// A leaseBench compares the server with few leases and with a million, and sees
// how soon it is back with that many: after a clean end, and after a crash
// and with as many more in journals, which it merges while it serves.
type leaseBench struct {
	*bench
	state            map[string]string // folders by what they begin with
	few, many        figure.Figure
	clean, crash     figure.Figure // seconds until it answers
	pinned, work     figure.Figure // the same on one core, and the CPU of it
	piled, sustained figure.Figure
}

func (b *bench) manyLeases(ctx context.Context) ([]figure.Figure, error) {
	lb := &leaseBench{
		bench: b, state: map[string]string{},
		few: figure.Figure{Name: "dhcp-cpu-1k-leases", Unit: "us/exch"},
		many: figure.Figure{
			Name: "dhcp-cpu-1m-leases", What: "DHCP CPU per exchange: 1,000,000 leases / 1,000", Unit: "us/exch", Aim: "<=1.2x", Peer: "1k-leases",
		},
		clean:  figure.Figure{Name: "dhcp-restart-1m-leases", What: "DHCP restart with 1,000,000 leases", Unit: "s", Aim: "<=3"},
		crash:  figure.Figure{Name: "dhcp-crash-1m-leases", What: "DHCP restart after kill -9 under load, 1,000,000 leases", Unit: "s", Aim: "<=3"},
		pinned: figure.Figure{Name: "dhcp-restart-1m-leases-1core", What: "DHCP restart with 1,000,000 leases on one core", Unit: "s"},
		work:   figure.Figure{Name: "dhcp-restart-1m-leases-cpu", Unit: "s"},
		piled:  figure.Figure{Name: "dhcp-restart-2m-pile", What: "DHCP restart with 2,000,000 leases, half of them in journals", Unit: "s"},
		sustained: figure.Figure{
			Name: "dhcp-merging-256", What: "DHCP, 256 in flight, journals being merged: durable exchanges/s / 1,000 leases and no merging", Unit: "exch/s", Peer: "1k-leases",
		},
	}
	for name, p := range preloads {
		dir, err := b.preloaded(ctx, p)
		if err != nil {
			return nil, err
		}
		lb.state[name] = dir
	}
	_, err := b.alternate(ctx, b.rounds, []string{"1k", "1m", "1m-pile"}, func(round int, name string) error {
		err := lb.round(ctx, round, name)
		if err != nil || name != "1m" {
			return err
		}
		return lb.restarts(ctx, round)
	})
	lb.many.PeerRounds = lb.few.Rounds
	return []figure.Figure{lb.few, lb.many, lb.clean, lb.crash, lb.pinned, lb.work, lb.piled, lb.sustained}, err
}

// round starts the server with what a folder begins with.
func (b *leaseBench) round(ctx context.Context, round int, name string) error {
	dir, err := b.copied(b.state[name])
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ours := dhcpServer{name: "provision", start: startProvision}
	r, up, err := b.dhcpRun(ctx, ours, dir, exchangeArgs{InFlight: 256, For: b.measured(ours), FirstClient: 1 << 20})
	if err != nil {
		return err
	}
	b.say("dhcp with %s, round %d: up in %.2f s (CPU %.2f s), %.0f/s, %.1f us CPU, p99 %.1f ms, %s", name, round+1, up.took.Seconds(), up.cpu.Seconds(), r.rate(), r.cpu, r.P99, r.merged)
	switch name {
	case "1k":
		b.few.Rounds = append(b.few.Rounds, r.cpu)
		b.sustained.PeerRounds = append(b.sustained.PeerRounds, r.rate())
	case "1m":
		b.many.Rounds = append(b.many.Rounds, r.cpu)
		b.pinned.Rounds = append(b.pinned.Rounds, up.took.Seconds())
		b.work.Rounds = append(b.work.Rounds, up.cpu.Seconds())
	case "1m-pile":
		b.piled.Rounds = append(b.piled.Rounds, up.took.Seconds())
		b.sustained.Rounds = append(b.sustained.Rounds, r.rate())
	}
	return nil
}

// restarts sees how soon a server with a million leases answers that has every
// core, as servers have that nobody asks yet: after a clean end, and with what one
// has left that was killed in the middle of a load.
func (b *leaseBench) restarts(ctx context.Context, round int) (err error) {
	l, err := b.newLink(ctx, "d", dhcpServerAddr, dhcpRelayAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for _, f := range []*figure.Figure{&b.clean, &b.crash} {
		up, err := b.restart(ctx, l, f == &b.crash)
		if err != nil {
			return err
		}
		f.Rounds = append(f.Rounds, up.took.Seconds())
		b.say("%s, round %d: up in %.2f s (CPU %.2f s)", f.What, round+1, up.took.Seconds(), up.cpu.Seconds())
	}
	return nil
}

func (b *leaseBench) restart(ctx context.Context, l *link, crash bool) (up startUp, err error) {
	dir, err := b.copied(b.state["1m"])
	if err != nil {
		return up, err
	}
	defer os.RemoveAll(dir)
	if crash {
		given, err := l.killedUnderLoad(ctx, dir)
		if err != nil {
			return up, err
		}
		b.say("killed after %d more leases", given)
	}
	began := time.Now()
	p, err := startProvision(ctx, l.onEveryCore(), dir)
	if err != nil {
		return up, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	return l.whenUp(ctx, p, began)
}

// killedUnderLoad leaves in a state folder what a server leaves that is killed
// while clients come. It says how many leases those got.
func (l *link) killedUnderLoad(ctx context.Context, dir string) (given int, err error) {
	p, err := startProvision(ctx, l, dir)
	if err != nil {
		return 0, err
	}
	if err := l.dhcpUp(ctx, p); err != nil {
		return 0, errors.Join(err, p.kill())
	}
	a := exchangeArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 256, For: 4 * time.Second, FirstClient: 1 << 20}
	var r exchanged
	loaded := make(chan error, 1)
	go func() { loaded <- l.load(ctx, a.For+30*time.Second, "dhcp", a, &r) }()
	middle := time.NewTimer(a.For / 2)
	defer middle.Stop()
	<-middle.C
	err = errors.Join(p.kill(), <-loaded)
	return r.Done, err
}

// copied copies a state folder.
func (b *bench) copied(state string) (dir string, err error) {
	if dir, err = b.tempDir("leases"); err != nil {
		return "", err
	}
	err = os.CopyFS(dir, os.DirFS(state))
	syscall.Sync() // or the server's first sync has to wait for our copy
	return dir, err
}
