package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

// A kind of BMC that is measured, with what is aimed at for 500 of them.
type kind struct {
	name          string
	peer          bool // ipmitool knows how to speak to it
	status, cycle string
}

func kinds() []kind {
	return []kind{
		{"ipmi", true, "<=1.5", "<=3"},
		{"ipmisim", true, "", ""}, // 500 processes, which take more of the machine than the client
		{"redfish", false, "<=10", "<=25"},
	}
}

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

const (
	deadShare = 20 // one of so many is dead, where some are
	lostShare = 10 // not more than one of so many may be lost by ipmitool
	jobWithin = 10 * time.Minute
)

// A sheet is what the rounds of one kind have given.
type sheet struct {
	status, cycle             figure.Figure
	statusOthers, cycleOthers figure.Figure // the others, while some are dead
	named, memory, files      figure.Figure
}

func newSheet(k kind) *sheet {
	name := func(what string) string { return "bmc-" + k.name + "-" + what }
	const others = "all-alive"
	return &sheet{
		status:       figure.Figure{Name: name("status"), Unit: "s", Aim: k.status},
		cycle:        figure.Figure{Name: name("cycle-pxe"), Unit: "s", Aim: k.cycle},
		statusOthers: figure.Figure{Name: name("status-5%-dead"), Unit: "s", Aim: "<=1.2x", Peer: others},
		cycleOthers:  figure.Figure{Name: name("cycle-pxe-5%-dead"), Unit: "s", Aim: "<=1.2x", Peer: others},
		named:        figure.Figure{Name: name("dead-named"), Unit: "s", Aim: "<=10"},
		memory:       figure.Figure{Name: name("memory"), Unit: "MiB"},
		files:        figure.Figure{Name: name("files"), Unit: "files"},
	}
}

func (s *sheet) figures() []figure.Figure {
	var all []figure.Figure
	for _, f := range []figure.Figure{s.status, s.cycle, s.statusOthers, s.cycleOthers, s.named, s.memory, s.files} {
		if len(f.Rounds) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// section measures one kind of BMC.
func (b *bench) section(ctx context.Context, k kind) (_ []figure.Figure, err error) {
	began := time.Now()
	y, err := b.newYard(ctx, k)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, y.close()) }()
	b.say("%s: %d BMCs started in %s; %d rounds", k.name, b.n, time.Since(began).Round(100*time.Millisecond), b.rounds)
	s := newSheet(k)
	peer := b.peer(k, s)
	alive, err := b.probe(ctx, y)
	if err != nil {
		return nil, err
	}
	for round := range b.rounds {
		// Who comes first changes from round to round.
		steps := []func() error{
			func() error { return b.ours(ctx, y, alive, s) },
			func() error { return b.theirs(ctx, y, alive, s, peer) },
		}
		if round%2 == 1 {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return s.figures(), fmt.Errorf("round %d: %w", round+1, err)
			}
		}
	}
	return s.figures(), nil
}

// peer reports whether ipmitool is measured too.
func (b *bench) peer(k kind, s *sheet) bool {
	if !k.peer {
		return false
	}
	if _, err := exec.LookPath("ipmitool"); err != nil {
		s.status.Missing, s.cycle.Missing = "ipmitool is not installed", "ipmitool is not installed"
		return false
	}
	s.status.Peer, s.cycle.Peer = "ipmitool", "ipmitool"
	return true
}

// probe finds out what is to be known about each BMC, as enrolment does: once.
func (b *bench) probe(ctx context.Context, y *yard) ([]contact, error) {
	all := make([]contact, b.n)
	for i := range all {
		all[i].Address = aliveAt(i).String()
	}
	r, err := b.do(ctx, y, job{Tool: "provision", Op: "probe", BMCs: all})
	b.say("  probed in %s", r.Wall.Round(time.Millisecond))
	return r.BMCs, err
}

// do lets a client do a job, in which nothing may go wrong.
func (b *bench) do(ctx context.Context, y *yard, j job) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, jobWithin)
	defer cancel()
	r, err := y.ask(ctx, j)
	if err == nil && r.Count > 0 {
		err = fmt.Errorf("%s, %s: %d of %d BMCs: %q", j.Tool, j.Op, r.Count, len(j.BMCs), r.Wrong)
	}
	return r, err
}

// ours is one round of the program.
func (b *bench) ours(ctx context.Context, y *yard, alive []contact, s *sheet) error {
	some := someDead(alive)
	var named time.Duration
	for _, step := range []struct {
		op          string
		all, others *figure.Figure
	}{{"status", &s.status, &s.statusOthers}, {"cycle", &s.cycle, &s.cycleOthers}} {
		whole, err := b.do(ctx, y, job{Tool: "provision", Op: step.op, BMCs: alive})
		if err != nil {
			return err
		}
		part, err := b.do(ctx, y, job{Tool: "provision", Op: step.op, BMCs: some})
		if err != nil {
			return err
		}
		add(step.all, whole.Wall.Seconds())
		add(step.others, part.Wall.Seconds())
		step.others.PeerRounds = append(step.others.PeerRounds, whole.Wall.Seconds())
		named = max(named, part.Named)
		for _, r := range []result{whole, part} {
			add(&s.memory, float64(r.KiB)/1024)
			add(&s.files, float64(r.Files))
		}
		b.say("  provision %s: %s; with dead ones %s, named after %s; %d MiB, %d files", step.op, whole.Wall.Round(time.Millisecond),
			part.Wall.Round(time.Millisecond), part.Named.Round(time.Millisecond), max(whole.KiB, part.KiB)/1024, max(whole.Files, part.Files))
	}
	add(&s.named, named.Seconds())
	return nil
}

// theirs is one round of ipmitool. It loses some BMCs when it has much to do:
// that is said, and does not end the round.
func (b *bench) theirs(ctx context.Context, y *yard, alive []contact, s *sheet, peer bool) error {
	if !peer {
		return nil
	}
	for op, f := range map[string]*figure.Figure{"status": &s.status, "cycle": &s.cycle} {
		r, err := b.do(ctx, y, job{Tool: "ipmitool", Op: op, BMCs: alive})
		if err != nil && r.Count*lostShare > len(alive) || err != nil && r.Count == 0 {
			return err
		}
		f.PeerRounds = append(f.PeerRounds, r.Wall.Seconds())
		b.say("  ipmitool %s: %s, %d BMCs lost", op, r.Wall.Round(time.Millisecond), r.Count)
	}
	return nil
}

func add(f *figure.Figure, v float64) { f.Rounds = append(f.Rounds, v) }

// someDead replaces some of the BMCs by dead ones.
func someDead(alive []contact) []contact {
	some := make([]contact, len(alive))
	copy(some, alive)
	for i := 0; i < len(some); i += deadShare {
		some[i].Address, some[i].Dead = deadAt(i).String(), true
	}
	return some
}
