package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe/tftp"
)

// Options say where a relay stands.
type Options struct {
	Server      string   // https://HOST:PORT; may be empty once it has enrolled
	Token       string   // of `provision relays add`; needed once
	Interfaces  []string // with machines behind them
	StateDir    string
	CacheLimit  int64          // bytes on disk; 0: 20 GiB
	DHCPServer  netip.AddrPort // invalid: the server's host, port 67
	DHCP6Server netip.AddrPort // invalid: the server's host, port 547
	Chained     bool           // relays behind this one are believed
	Version     string
	Log         *slog.Logger     // nil: silent
	Now         func() time.Time // nil: time.Now
}

const (
	defaultCache = 20 << 30
	leastCache   = 64 << 20 // a kernel and a ramdisk
)

// A Relay is a running edge.
type Relay struct {
	o       Options
	id      *identity
	names   *net.Resolver // nil: the system's
	link    *link
	cache   *cache
	rules   *rules
	rules6  *rules6
	stats   stats
	tally   tally
	scripts *ipxescripts.Scripts
	others  *foreign.Watch
	slow    tftp.SlowLoaders
	away    atomic.Bool
	removed atomic.Bool // the server refuses us
	known   atomic.Pointer[knowledge]
	keeping chan kept     // the last snapshot, until it is on disk
	learned time.Time     // when the server was last asked what it knows; of the beating alone
	wake    chan struct{} // it is asked beside the beats; nil before Run
	places  atomic.Pointer[[]port]
	served  atomic.Int64 // bytes given to machines

	strangers tftp.Strangers // who ask by TFTP and hear nothing

	finding sync.Mutex // held while the server is looked up
	lost    bool       // its name leads nowhere; whoever reads the log knows

	mu       sync.Mutex
	seen     []api.RelayFetched       // to report
	troubles map[cause]string         // to report
	granted  map[netip.Addr]grant     // what was confirmed while the server was away
	rounds   int                      // of handing that over
	asked    map[transaction]question // transactions of our own, and what each is about
	socket   *socket                  // nil before Run
	socket6  *socket6                 // nil before Run, without a server to relay to, and while it cannot be opened
}

var longAgo = time.Unix(0, 0)

// Open reads the relay's state, and enrols at the server when there is none.
func Open(ctx context.Context, o Options) (*Relay, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CacheLimit == 0 {
		o.CacheLimit = defaultCache
	}
	if o.CacheLimit < leastCache {
		return nil, fleet.Invalidf("cache size", fmt.Sprintf("give it %d MiB at least", leastCache>>20), errors.New("too small for a kernel and a ramdisk"))
	}
	if len(o.Interfaces) == 0 {
		return nil, fleet.Invalidf("interfaces", "name those with machines behind them: --iface eth1", errors.New("none"))
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	r := &Relay{o: o, granted: map[netip.Addr]grant{}, asked: map[transaction]question{}, keeping: make(chan kept, 1)}
	if err := r.identify(ctx); err != nil {
		return nil, err
	}
	return r, r.prepare(ctx)
}

// identify finds out who we are, or becomes somebody.
func (r *Relay) identify(ctx context.Context) (err error) {
	if r.id, err = readIdentity(r.o.StateDir); err != nil {
		return err
	}
	if r.id.enrolled() {
		if r.o.Server != "" && r.o.Server != r.id.Server {
			r.id.Server = r.o.Server // it has moved; its CA is the same
		}
		r.link, err = newLink(r.id, r.names)
		return err
	}
	if r.o.Server == "" || r.o.Token == "" {
		return &fleet.Error{
			Kind: fleet.Invalid, Op: "start relay", Err: errors.New("it has not enrolled yet"),
			Hint: "on the server: provision relays add NAME --subnet SUBNET; then here: provision relay --server https://SERVER:8443 --token-file FILE --iface IFACE",
		}
	}
	secret, pin, err := splitToken(r.o.Token)
	if err != nil {
		return err
	}
	if r.id == nil {
		r.id = &identity{dir: r.o.StateDir}
		if r.id.Key, err = newKey(); err != nil {
			return err
		}
	}
	r.id.Server, r.id.Pin = r.o.Server, pin
	if err := r.id.change(func(*identity) {}); err != nil { // before the token is spent
		return err
	}
	if r.link, err = newLink(r.id, r.names); err != nil {
		return err
	}
	return r.link.enrol(ctx, secret)
}

// prepare gets ready what serves: the cache, the rules, and what the server
// said last, now or before we were started.
func (r *Relay) prepare(ctx context.Context) (err error) {
	if r.scripts, err = ipxescripts.Load(); err != nil {
		return err
	}
	if r.cache, err = openCache(filepath.Join(r.o.StateDir, "cache"), r.o.CacheLimit); err != nil {
		return err
	}
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	server, six, err := r.dhcpServers(looking)
	if err != nil {
		return err
	}
	r.rules = newRules(r.id.Name, server, r.o.Chained, r.o.Now, &r.stats)
	r.rules6 = newRules6(six, r.o.Chained, r.o.Now, &r.stats)
	if err := r.findPorts(); err != nil {
		return err
	}
	r.others = r.newWatch()
	last, err := readSnapshot(r.o.StateDir)
	if err != nil { // the server says it anew
		r.o.Log.WarnContext(ctx, "what the server said last is not read", "err", err)
	}
	r.away.Store(true)
	if last.Tag != "" {
		if err := r.learn(last.Snapshot, last.Tag); err != nil {
			return err
		}
	}
	err = r.beat(ctx)
	if r.removed.Load() {
		return &fleet.Error{
			Kind: fleet.Denied, Code: "E-RELAY", Op: "start relay", On: r.id.Name, Err: errors.New("the server does not know it any more"),
			Hint: "remove " + r.o.StateDir + " and enrol it again: provision relays add " + r.id.Name,
		}
	}
	if err != nil && r.known.Load() == nil {
		return &fleet.Error{Kind: fleet.Unreachable, Op: "start relay", On: r.id.Name, Err: err, Hint: "a first start needs the server: check that " + r.id.Server + " can be reached"}
	}
	return nil
}

// Name is what the server calls us.
func (r *Relay) Name() string { return r.id.Name }

// Run serves until ctx is done.
func (r *Relay) Run(ctx context.Context) error {
	doors, err := r.openDoors(ctx)
	if err != nil {
		return err
	}
	defer r.link.close()
	r.socket, r.wake = doors.dhcp, make(chan struct{}, 1)
	r.o.Log.InfoContext(ctx, "relay started", "relay", r.id.Name, "server", r.id.Server, "interfaces", r.o.Interfaces, "away", r.away.Load())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { <-ctx.Done(); _ = doors.dhcp.conn.Close(); return nil })
	group.Go(func() error { r.keepDoors(ctx, doors); return nil })
	group.Go(func() error { return r.relayDHCP(ctx, doors.dhcp) })
	group.Go(func() error { r.keepBeating(ctx); return nil })
	group.Go(func() error { repeat.Every(ctx, followEvery, func() { r.follow(ctx) }); return nil })
	group.Go(func() error { repeat.Every(ctx, tftp.StrangersEvery, r.seekStrangersNow); return nil })
	group.Go(func() error { r.keepLearning(ctx); return nil })
	group.Go(func() error { r.keepSnapshots(ctx); return nil })
	group.Go(func() error { return r.others.Run(ctx) })
	group.Go(func() error { return dhcp6.Courtesy(ctx, r.o.Interfaces, r.advertised, alarms6{r}, r.o.Log) })
	return group.Wait()
}
