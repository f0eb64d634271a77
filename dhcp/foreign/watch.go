package foreign

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/fleet"
)

const (
	// DefaultEvery is how long it is from one probe to the next.
	DefaultEvery = 30 * time.Second

	lookEvery   = 5 * time.Second         // how soon a new interface is noticed
	probeHolds  = 10 * time.Second        // what it found out
	answerTime  = 4 * time.Second         // dnsmasq pings an address for 3 s before it offers it
	secondProbe = 1500 * time.Millisecond // after the first one, which may get lost
)

// Alarms is told of trouble that lasts, and when it is over.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// Options are what a watch needs.
type Options struct {
	Networks func() []Network      // to watch; asked again and again
	Own      func(netip.Addr) bool // whether an address is ours
	DUID     string                // of our DHCPv6 server, in hex; "": there is none
	Silent   bool                  // who answers our probes in our name is not us, and no relay of ours
	Alarms   Alarms
	Log      *slog.Logger
	Now      func() time.Time
	Every    time.Duration // from one probe to the next; 0: DefaultEvery
}

// Stats are counters since the start.
type Stats struct {
	Replies   int64 // of other servers
	Malformed int64 // packets that claim to be replies and cannot be read
	Limited   int64 // replies not looked at because too many came
	Refused   int64 // servers not noted because there are too many
	Evicted   int64 // servers forgotten for others that are known better
	Probes    int64 // packets that we sent
	Unsent    int64 // and could not send
	Panics    int64 // frames that made us fail; each is a bug
}

type counters struct {
	replies, malformed, limited, refused, evicted, probes, unsent, panics atomic.Int64
}

// A Watch finds other DHCP servers. Make one with [New].
type Watch struct {
	o      Options
	table  *table
	stats  counters
	client fleet.MAC // of the machine that does not exist

	poke chan struct{} // probe now

	probing sync.Mutex // held by [Watch.Probe]
	probed  time.Time  // when the last one began

	mu    sync.Mutex
	taps  map[tapKey]*tap
	cards []net.HardwareAddr // of this host, whatever they are for
	blind error              // why we cannot listen; nil when we can
}

type tapKey struct {
	index  int // of the interface
	family *family
}

// New returns a watch that neither listens nor asks yet.
func New(o Options) *Watch {
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	w := &Watch{o: o, client: imaginaryClient(), poke: make(chan struct{}, 1), taps: map[tapKey]*tap{}}
	w.table = newTable(&w.o, &w.stats)
	return w
}

// Stats returns the counters.
func (w *Watch) Stats() Stats {
	c := &w.stats
	return Stats{
		Replies: c.replies.Load(), Malformed: c.malformed.Load(), Limited: c.limited.Load(),
		Refused: c.refused.Load(), Evicted: c.evicted.Load(), Probes: c.probes.Load(), Unsent: c.unsent.Load(), Panics: c.panics.Load(),
	}
}

// Imaginary reports whether a client is the machine that our probes are
// from: our own server must not answer it.
func (w *Watch) Imaginary(mac fleet.MAC) bool { return mac == w.client }

// Servers returns the other servers that answer now.
func (w *Watch) Servers() []Server { return w.table.list() }

// Blind says why other servers cannot be seen at all; nil when they can.
func (w *Watch) Blind() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blind
}

// SetSubnets says what each network is to be, and asks at once who else
// answers there.
func (w *Watch) SetSubnets(subnets []fleet.Subnet) {
	w.table.setSubnets(slices.Clone(subnets))
	select {
	case w.poke <- struct{}{}:
	default: // about to
	}
}

// Chosen notes that a client took the offer of another server. Of servers
// behind relays this is all that we ever see.
func (w *Watch) Chosen(server netip.Addr, subnet string) {
	if !w.o.Own(server) {
		w.table.chosen(Server{Addr: server}, subnet)
	}
}

// ChosenDUID is [Watch.Chosen] for a DHCPv6 server, which clients name by its
// DUID.
func (w *Watch) ChosenDUID(duid []byte, subnet string) {
	if len(duid) <= maxDUID {
		w.table.chosen(Server{DUID: hex.EncodeToString(duid)}, subnet)
	}
}

// Relayed notes a server that a relay of ours sees on its side. Of two relays
// on a network each hears what we say through the other.
func (w *Watch) Relayed(subnet string, s Server) {
	if !w.o.Own(s.Addr) && (s.DUID == "" || s.DUID != w.o.DUID) {
		w.table.relayed(subnet, s)
	}
}

// Run listens and asks until ctx is done.
func (w *Watch) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	defer w.table.clear()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	probe := time.NewTicker(w.o.Every)
	defer probe.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	w.open(ctx, g)
	for {
		select {
		case <-ctx.Done():
			w.closeTaps()
			return g.Wait()
		case <-look.C:
			w.open(ctx, g)
			w.table.expire()
		case <-w.poke:
			w.open(ctx, g)
			w.ask()
			again.Reset(secondProbe)
		case <-again.C:
			w.ask()
		case <-probe.C:
			w.ask()
		}
	}
}

// Probe asks once more and returns who answers, when that has had its time.
// What was found out a moment ago is not asked again.
func (w *Watch) Probe(ctx context.Context) ([]Server, error) {
	w.probing.Lock()
	defer w.probing.Unlock()
	if w.o.Now().Sub(w.probed) > probeHolds {
		if err := w.Blind(); err != nil {
			return nil, err
		}
		begin := w.o.Now()
		if err := w.wait(ctx); err != nil {
			return nil, err
		}
		w.probed = begin
	}
	return slices.DeleteFunc(w.Servers(), func(s Server) bool { return s.Probed && s.Last.Before(w.probed) }), nil
}

// wait asks twice, as the first packet may get lost, and waits for answers.
func (w *Watch) wait(ctx context.Context) error {
	w.ask()
	for _, d := range []time.Duration{secondProbe, answerTime - secondProbe} {
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if d == secondProbe {
			w.ask()
		}
	}
	return nil
}

// open listens on the networks that there are now, and on no others.
func (w *Watch) open(ctx context.Context, g *errgroup.Group) {
	now, cards := w.o.Networks(), ownCards()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cards = cards
	for k, t := range w.taps {
		same := slices.ContainsFunc(now, func(n Network) bool { return n.Index == k.index && slices.Equal(n.MAC, t.network().MAC) })
		if !same || t.broken.Load() {
			t.close()
			delete(w.taps, k)
		}
	}
	for _, n := range now {
		for _, f := range families {
			w.openTap(ctx, g, f, n)
		}
	}
}

// openTap listens on one network, for one family; the caller holds mu.
func (w *Watch) openTap(ctx context.Context, g *errgroup.Group, f *family, n Network) {
	k := tapKey{n.Index, f}
	if t := w.taps[k]; t != nil {
		t.setNetwork(n)
		return
	}
	t, err := openTap(f, n, w.client)
	if err != nil {
		w.sightless(ctx, n, err)
		return
	}
	w.taps[k], w.blind = t, nil
	g.Go(func() error { w.listen(t); return nil })
}

// sightless notes that we cannot listen on a network; the caller holds mu. A
// network that has just vanished is no news.
func (w *Watch) sightless(ctx context.Context, n Network, err error) {
	if _, gone := net.InterfaceByIndex(n.Index); gone != nil {
		return
	}
	if w.blind == nil {
		w.o.Log.WarnContext(ctx, "other dhcp servers cannot be seen", "iface", n.Name, "err", err)
	}
	w.blind = err
}

func (w *Watch) closeTaps() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, t := range w.taps {
		t.close()
		delete(w.taps, k)
	}
}

// ask sends probes on every network.
func (w *Watch) ask() {
	w.mu.Lock()
	taps := slices.Collect(maps.Values(w.taps))
	w.mu.Unlock()
	for _, t := range taps {
		sent, unsent, err := t.ask(w.client, w.o.Now())
		w.stats.probes.Add(int64(sent))
		w.stats.unsent.Add(int64(unsent))
		if err != nil {
			w.o.Log.Debug("dhcp probes not sent", "iface", t.network().Name, "family", t.name, "count", unsent, "err", err)
		}
	}
}

// ours reports whether a card of this host said it.
func (w *Watch) ours(r sighting) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taps {
		if slices.Equal(r.MAC, t.network().MAC) {
			return true
		}
	}
	return slices.ContainsFunc(w.cards, func(c net.HardwareAddr) bool { return slices.Equal(r.MAC, c) })
}

// bearsUs reports whether a reply names us. Of IPv6 our DUID tells: many links
// have an fe80::1.
func (w *Watch) bearsUs(r sighting) bool {
	if r.From.Is4() {
		return w.o.Own(r.Server) || w.o.Own(r.From)
	}
	return r.DUID != "" && r.DUID == w.o.DUID
}

// isTwin reports whether a reply that names us, and comes from another card, is
// another server's, such as a copy of this one: relays pass what we say, too.
// But nobody of ours answers our probes; and no relay sends to all machines from
// an address of ours.
func (w *Watch) isTwin(r sighting, answer, toAll bool) bool {
	return w.o.Silent && (answer || toAll && r.From.Is4() && w.o.Own(r.From) && !r.Relay.IsValid())
}

// listen notes who answers on one network, until its tap is closed.
func (w *Watch) listen(t *tap) {
	defer t.broken.Store(true)
	var room rooms
	for {
		frame, err := t.read()
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				w.o.Log.Debug("dhcp replies not read", "iface", t.network().Name, "err", err)
			}
			return
		}
		w.hear(t, frame, &room)
	}
}

// hear notes what one frame says. It is the boundary that no frame crosses:
// whatever it does to us, the next one is heard.
func (w *Watch) hear(t *tap, frame []byte, room *rooms) {
	defer func() {
		if p := recover(); p != nil {
			w.stats.panics.Add(1)
			w.o.Log.Error("dhcp reply made us panic", "panic", p, "frame", fmt.Sprintf("%x", frame), "stack", string(debug.Stack()))
		}
	}()
	now := w.o.Now()
	if !room.frames.take(now, framesPerSecond) {
		w.stats.limited.Add(1)
		return
	}
	r, err := t.parse(frame)
	if err != nil {
		w.stats.malformed.Add(1)
		return
	}
	if w.ours(r) {
		return
	}
	answer := t.answers(r, w.client, now)
	if w.bearsUs(r) {
		if r.Twin = w.isTwin(r, answer, frame[0]&1 != 0); !r.Twin {
			return
		}
	}
	if !room.of(r.Router, answer).take(now, repliesPerSecond) {
		w.stats.limited.Add(1)
		return
	}
	w.stats.replies.Add(1)
	w.table.note(t.network(), r, answer)
}
