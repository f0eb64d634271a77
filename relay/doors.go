package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
	"github.com/rackstage/provision/internal/throttle"
)

// lookEvery is how soon an address that comes is served.
const lookEvery = 2 * time.Second

// A door is what machines reach at one of our addresses.
type door struct {
	http   net.Listener
	agents net.Listener
	tftp   net.PacketConn
	said   way
	stop   context.CancelFunc // nil before it is served
	ended  atomic.Bool        // it was served, and is no more
}

// A way is how the server says that machines come in.
type way struct {
	boot, agents uint16
	onePort      bool
}

func wayOf(said api.RelaySnapshot) way { return way{said.BootPort, said.AgentPort, said.OnePort} }

func (d *door) close() {
	for _, l := range []net.Listener{d.http, d.agents} {
		if l != nil {
			_ = l.Close()
		}
	}
	if d.tftp != nil {
		_ = d.tftp.Close()
	}
}

// doors are the sockets of a relay. Those at the addresses that it starts with
// are open before anything is answered.
type doors struct {
	dhcp  *socket
	dhcp6 *socket6 // nil without a server to relay to, and while it cannot be opened
	deaf  string   // why machines of IPv6 are not heard, as it was said to whoever reads the log

	open   map[netip.Addr]*door
	failed map[netip.Addr]bool // said to whoever reads the log

	files, agents *throttle.Doorkeeper // of all doors
	served        sync.WaitGroup
}

func (r *Relay) openDoors(ctx context.Context) (_ *doors, err error) {
	d := &doors{
		open: map[netip.Addr]*door{}, failed: map[netip.Addr]bool{},
		files: throttle.NewDoorkeeper(connsPerAddr, connsInAll), agents: throttle.NewDoorkeeper(agentsPerAddr, agentsInAll),
	}
	d.files.Subnets(everyAddress)
	d.agents.Subnets(everyAddress)
	r.tally.files.Store(d.files)
	r.tally.agents.Store(d.agents)
	if d.dhcp, err = listenDHCP(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	r.hear6(ctx, d)
	return d, r.openNew(ctx, d)
}

// everyAddress is of a network of machines: a relay is where they are.
func everyAddress(netip.Addr) bool { return true }

// close closes what is open; nothing of it may be served yet.
func (d *doors) close() {
	_ = d.dhcp.conn.Close()
	if d.dhcp6 != nil {
		_ = d.dhcp6.conn.Close()
	}
	for _, at := range d.open {
		at.close()
	}
}

// openNew opens doors at addresses that have none. One of IPv6 that cannot be
// served is left out, for it may end at any time; without one of IPv4, or any
// at all, a relay is of no use. The error says why.
func (r *Relay) openNew(ctx context.Context, d *doors) error {
	var four, six error
	for _, p := range r.ports() {
		for _, at := range p.refused {
			d.complain(ctx, r.o.Log, at, p.name, errElsewhere)
			six = errors.Join(six, fmt.Errorf("%s: %w", at, errElsewhere))
		}
		for _, at := range p.addrs() {
			switch err := d.openAt(ctx, at, r.known.Load().said); {
			case err == nil:
			case at.Is4():
				four = errors.Join(four, err)
				d.complain(ctx, r.o.Log, at, p.name, err)
			default:
				six = errors.Join(six, err)
				d.complain(ctx, r.o.Log, at, p.name, err)
			}
		}
	}
	r.troubleOf(fleet.CodeRelayNoIPv6, "addresses", six)
	if len(d.open) == 0 {
		return errors.Join(four, six)
	}
	return four
}

var errElsewhere = errors.New("another machine has this address too")

// complain says once that an address is not served.
func (d *doors) complain(ctx context.Context, log *slog.Logger, at netip.Addr, iface string, err error) {
	if !d.failed[at] {
		d.failed[at] = true
		log.WarnContext(ctx, "address not served", "addr", at, "interface", iface, "err", err)
	}
}

// openAt opens what machines reach at one address, unless it is open.
func (d *doors) openAt(ctx context.Context, at netip.Addr, said api.RelaySnapshot) (err error) {
	if d.open[at] != nil {
		return nil
	}
	n := &door{said: wayOf(said)}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.http, err = listenTCP(ctx, at, said.BootPort); err != nil {
		return err
	}
	if n.agents, err = listenTCP(ctx, at, said.AgentPort); err != nil {
		return err
	}
	if n.tftp, err = listenTFTP(ctx, at); err != nil {
		return err
	}
	d.open[at] = n
	delete(d.failed, at)
	return nil
}

func listenTCP(ctx context.Context, at netip.Addr, port uint16) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(at.String(), strconv.Itoa(int(port))))
	if err != nil {
		return nil, taken("tcp", int(port), err)
	}
	return l, nil
}

// keepDoors serves at all doors until ctx is done. Addresses that come get
// theirs, and of those that are gone they are closed.
func (r *Relay) keepDoors(ctx context.Context, d *doors) {
	defer d.served.Wait()
	r.serve6(ctx, d)
	r.serveDoors(ctx, d)
	repeat.Every(ctx, lookEvery, func() {
		changed, err := r.lookAgain()
		if err != nil {
			r.o.Log.WarnContext(ctx, "addresses not read", "err", err)
			return
		}
		if changed {
			r.o.Log.InfoContext(ctx, "addresses have changed", "addrs", r.addrs())
			err = r.known.Load().refresh()
		}
		r.hear6(ctx, d)
		r.serve6(ctx, d)
		d.closeGone(r.ports(), wayOf(r.known.Load().said))
		if err = errors.Join(err, r.openNew(ctx, d)); err != nil {
			r.o.Log.DebugContext(ctx, "addresses not served", "err", err)
		}
		r.serveDoors(ctx, d)
	})
}

// addrs are our addresses that machines reach us by.
func (r *Relay) addrs() (list []netip.Addr) {
	for _, p := range r.ports() {
		list = append(list, p.addrs()...)
	}
	return list
}

// closeGone closes the doors at addresses that are ours no more, and those whose
// ports are others now, and forgets those that have ended by themselves.
func (d *doors) closeGone(ports []port, said way) {
	stay := map[netip.Addr]bool{}
	for _, p := range ports {
		for _, at := range slices.Concat(p.addrs(), p.ending, p.doubtful) {
			stay[at] = true
		}
		for _, at := range p.refused {
			stay[at] = d.open[at] == nil
		}
	}
	for at, n := range d.open {
		if !stay[at] || n.ended.Load() || n.said != said {
			n.stop()
			n.close() // the next one may want the same ports
			delete(d.open, at)
		}
	}
	maps.DeleteFunc(d.failed, func(at netip.Addr, _ bool) bool { return !stay[at] })
}

// serveDoors begins to serve at doors that are new.
func (r *Relay) serveDoors(ctx context.Context, d *doors) {
	for at, n := range d.open {
		if n.stop != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		n.stop = stop
		d.served.Go(func() {
			defer n.ended.Store(true)
			if err := r.serveDoor(ctx, d, n); err != nil {
				r.o.Log.ErrorContext(ctx, "address served no more, for now", "addr", at, "err", err)
			}
		})
	}
}

func (r *Relay) serveDoor(ctx context.Context, d *doors, n *door) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { <-ctx.Done(); n.close(); return nil })
	group.Go(func() error { return r.serveHTTP(ctx, n.http, d.files) })
	group.Go(func() error { return r.serveTFTP(ctx, n.tftp) })
	group.Go(func() error { return r.carryAgents(ctx, n.agents, d.agents) })
	return group.Wait()
}
