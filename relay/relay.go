package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/dhcp6"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
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
	link    *link
	cache   *cache
	rules   *rules
	rules6  *rules6
	stats   stats
	scripts *ipxescripts.Scripts
	others  *foreign.Watch
	slow    tftp.SlowLoaders
	away    atomic.Bool
	removed atomic.Bool // the server refuses us
	known   atomic.Pointer[knowledge]
	learned time.Time // when the server was last asked what it knows; of the beating alone
	places  atomic.Pointer[[]port]
	served  atomic.Int64 // bytes given to machines

	mu      sync.Mutex
	seen    []api.RelayFetched       // to report
	granted map[fleet.MAC]netip.Addr // what was confirmed while the server was away
	rounds  int                      // of handing that over
	asked   map[uint32]asked         // transactions of our own
	socket  *socket                  // nil before Run
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
	r := &Relay{o: o, granted: map[fleet.MAC]netip.Addr{}, asked: map[uint32]asked{}}
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
	if r.id != nil {
		if r.o.Server != "" && r.o.Server != r.id.Server {
			r.id.Server = r.o.Server // it has moved; its CA is the same
		}
		r.link, err = newLink(r.id)
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
	r.id = &identity{Server: r.o.Server, Pin: pin, dir: r.o.StateDir}
	if r.id.Key, err = newKey(); err != nil {
		return err
	}
	if r.link, err = newLink(r.id); err != nil {
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
	server, six, err := r.dhcpServers(ctx)
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
	if err != nil {
		return err
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

// dhcpServers are where DHCP packets of either family go: the host that
// everything else goes to, unless we are told otherwise. A server that has one
// family only is relayed to in that one.
func (r *Relay) dhcpServers(ctx context.Context) (four, six netip.AddrPort, err error) {
	u, err := url.Parse(r.id.Server)
	if err != nil {
		return four, six, err
	}
	if four = r.o.DHCPServer; !four.IsValid() {
		four, err = lookUp(ctx, "ip4", u.Hostname(), dhcpPort)
	}
	if six = r.o.DHCP6Server; !six.IsValid() {
		six, _ = lookUp(ctx, "ip6", u.Hostname(), serverPort6) // most have none
	}
	if !four.IsValid() && !six.IsValid() {
		return four, six, &fleet.Error{Kind: fleet.Unreachable, Op: "look up server", On: u.Hostname(), Err: err, Hint: "use its address, or give --dhcp-server"}
	}
	return four, six, nil
}

func lookUp(ctx context.Context, family, host string, port uint16) (netip.AddrPort, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil || len(addrs) == 0 {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), port), nil
}

// findPorts looks up our interfaces and their addresses.
func (r *Relay) findPorts() error {
	var ports []port
	for _, name := range r.o.Interfaces {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return fleet.Invalidf("interface "+name, "see: ip address", err)
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return err
		}
		p := port{name: name, index: ifi.Index}
		for _, a := range addrs {
			switch on, err := netip.ParsePrefix(a.String()); {
			case err != nil || on.Addr().IsLinkLocalUnicast():
			case on.Addr().Is6():
				p.six = append(p.six, on)
			case !p.addr.IsValid():
				p.addr = on
			}
		}
		if !p.addr.IsValid() && len(p.six) == 0 {
			return fleet.Invalidf("interface "+name, "give it one: ip address add ADDRESS/BITS dev "+name, errors.New("it has no address"))
		}
		ports = append(ports, p)
	}
	r.places.Store(&ports)
	return nil
}

func (r *Relay) ports() []port { return *r.places.Load() }

// addrs are our addresses on a port that machines reach us by. Which of them
// are on a subnet the server may say only later.
func (p port) addrs() (list []netip.Addr) {
	if p.addr.IsValid() {
		list = append(list, p.addr.Addr())
	}
	for _, six := range p.six {
		list = append(list, six.Addr())
	}
	return list
}

func (r *Relay) portByAddr(a netip.Addr) (port, bool) {
	for _, p := range r.ports() {
		if p.addr.IsValid() && p.addr.Addr() == a {
			return p, true
		}
	}
	return port{}, false
}

func (r *Relay) portByIndex(index int) (port, bool) {
	for _, p := range r.ports() {
		if p.index == index {
			return p, true
		}
	}
	return port{}, false
}

// Name is what the server calls us.
func (r *Relay) Name() string { return r.id.Name }

// Run serves until ctx is done.
func (r *Relay) Run(ctx context.Context) error {
	doors, err := r.openDoors(ctx)
	if err != nil {
		return err
	}
	defer doors.close()
	defer r.link.close()
	r.socket = doors.dhcp
	r.o.Log.InfoContext(ctx, "relay started", "relay", r.id.Name, "server", r.id.Server, "interfaces", r.o.Interfaces, "away", r.away.Load())
	if len(r.advertised()) > 0 && doors.dhcp6 == nil {
		r.o.Log.WarnContext(ctx, "dhcpv6 not relayed: the server's name has no IPv6 address, see --dhcp6-server", "server", r.id.Server)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { <-ctx.Done(); doors.close(); return nil })
	group.Go(func() error { return r.relayDHCP(ctx, doors.dhcp) })
	group.Go(func() error { return r.relayDHCP6(ctx, doors.dhcp6) })
	group.Go(func() error { r.keepBeating(ctx); return nil })
	group.Go(func() error { return r.others.Run(ctx) })
	group.Go(func() error { return dhcp6.Courtesy(ctx, r.o.Interfaces, r.advertised, r.o.Log) })
	group.Go(func() error { return r.serveHTTP(ctx, doors.http) })
	group.Go(func() error { return r.serveTFTP(ctx, doors.tftp) })
	group.Go(func() error { return r.carryAgents(ctx, doors.agents) })
	return group.Wait()
}

// doors are the sockets of a relay, all of them open before anything is
// answered, and on the machines' side only.
type doors struct {
	dhcp   *socket
	dhcp6  *socket6 // nil without a server to relay to
	http   []net.Listener
	agents []net.Listener
	tftp   []net.PacketConn
	once   sync.Once
}

func (d *doors) close() {
	d.once.Do(func() {
		if d.dhcp != nil {
			_ = d.dhcp.conn.Close()
		}
		if d.dhcp6 != nil {
			_ = d.dhcp6.conn.Close()
		}
		for _, l := range slices.Concat(d.http, d.agents) {
			_ = l.Close()
		}
		for _, c := range d.tftp {
			_ = c.Close()
		}
	})
}

func (r *Relay) openDoors(ctx context.Context) (_ *doors, err error) {
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dhcp, err = listenDHCP(ctx); err != nil {
		return nil, err
	}
	if r.rules6.server.IsValid() {
		if d.dhcp6, err = listenDHCP6(ctx, r.ports()); err != nil {
			return nil, err
		}
	}
	for _, p := range r.ports() {
		for _, at := range p.addrs() {
			if err := d.openSoon(ctx, at, r.known.Load().said); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// An address of IPv6 that is new cannot be used before it is known that nobody
// else has it (RFC 4862 §5.4): it is tried so often and so many times.
const (
	doubtEvery = 200 * time.Millisecond
	doubtTries = 25
)

// openSoon opens doors at an address once it can be used.
func (d *doors) openSoon(ctx context.Context, at netip.Addr, said api.RelaySnapshot) (err error) {
	tick := time.NewTicker(doubtEvery)
	defer tick.Stop()
	for range doubtTries {
		if err = d.open(ctx, at, said); at.Is4() || !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// open opens what machines reach at one address.
func (d *doors) open(ctx context.Context, at netip.Addr, said api.RelaySnapshot) error {
	for _, want := range []struct {
		port uint16
		into *[]net.Listener
	}{{said.BootPort, &d.http}, {said.AgentPort, &d.agents}} {
		l, err := listenTCP(ctx, at, want.port)
		if err != nil {
			return err
		}
		*want.into = append(*want.into, l)
	}
	c, err := listenTFTP(ctx, at)
	if err != nil {
		return err
	}
	d.tftp = append(d.tftp, c)
	return nil
}

func listenTCP(ctx context.Context, at netip.Addr, port uint16) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(at.String(), strconv.Itoa(int(port))))
	if err != nil {
		return nil, taken("tcp", int(port), err)
	}
	return l, nil
}
