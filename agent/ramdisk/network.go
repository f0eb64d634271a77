package ramdisk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/rackstage/provision/agent/retry"
)

// A Network brings up the card that the machine booted from; without one, or
// when it does not show up, every card that has a link.
type Network struct {
	MAC    string     // of that card; may be ""
	Server netip.Addr // that has to be reached: its family is that of the address we ask for
	Log    *slog.Logger
}

const (
	lookEvery    = 25 * time.Millisecond
	cardPatience = 20 * time.Second // for the card that the firmware named
	tryPatience  = 45 * time.Second // for one round of DHCP on what is there
)

// Up returns when a card has an address. It does not give up before ctx is
// done: cables are plugged, switches learn, servers start. Keep the lease
// with [Network.Keep].
func (n Network) Up(ctx context.Context) (Lease, error) {
	patience := time.Now().Add(cardPatience)
	for {
		cards, err := n.cards(ctx, patience)
		if err != nil {
			return Lease{}, err
		}
		lease, err := n.first(ctx, cards)
		if err == nil {
			if err = configure(lease); err == nil {
				return lease, n.awaitRoute(ctx)
			}
		}
		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}
		n.Log.Warn("network is not up, trying again", "cards", strings.Join(names(cards), ","), "err", err)
		patience = time.Time{} // now any card will do
		if err := retry.Pause(ctx, time.Second); err != nil {
			return Lease{}, err
		}
	}
}

// cards waits for cards with a link and brings them up: the one with our MAC
// alone until patience is over, then all.
func (n Network) cards(ctx context.Context, patience time.Time) ([]net.Interface, error) {
	said := time.Now().Add(5 * time.Second)
	for {
		found := physical()
		chosen := slices.DeleteFunc(slices.Clone(found), func(i net.Interface) bool { return i.HardwareAddr.String() != n.MAC })
		if len(chosen) == 0 && (n.MAC == "" || time.Now().After(patience)) {
			chosen = found
		}
		var linked []net.Interface
		for _, i := range chosen {
			if n.Server.Is6() {
				hurry(i)
			}
			if raise(i) {
				linked = append(linked, i)
			}
		}
		if len(linked) > 0 {
			return linked, nil
		}
		if time.Now().After(said) {
			n.Log.Warn("no network card with a link yet", "cards", strings.Join(names(found), ","), "wanted", cmp.Or(n.MAC, "any"))
			said = time.Now().Add(30 * time.Second)
			if len(chosen) > 0 && time.Now().After(patience) {
				n.MAC = "" // its cable is out: look at the others too
			}
		}
		if err := retry.Pause(ctx, lookEvery); err != nil {
			return nil, err
		}
	}
}

// physical returns the cards, without loopback and what is not hardware.
func physical() []net.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i net.Interface) bool {
		_, err := os.Stat("/sys/class/net/" + i.Name + "/device")
		return err != nil || len(i.HardwareAddr) != 6
	})
}

func names(cards []net.Interface) []string {
	var out []string
	for _, c := range cards {
		out = append(out, c.Name)
	}
	return out
}

// raise switches a card on and reports whether it has a link.
func raise(i net.Interface) bool {
	if i.Flags&net.FlagUp == 0 {
		link, err := netlink.LinkByIndex(i.Index)
		if err != nil || netlink.LinkSetUp(link) != nil {
			return false
		}
	}
	carrier, err := os.ReadFile("/sys/class/net/" + i.Name + "/carrier")
	return err == nil && strings.TrimSpace(string(carrier)) == "1"
}

// RaiseAll switches all cards on: only then do they show whether they have a
// link, and hear their neighbours.
func RaiseAll() {
	for _, i := range physical() {
		raise(i)
	}
}

// A client asks for an address on one card.
type client interface {
	acquire(ctx context.Context) (Lease, error)
	renew(ctx context.Context, l Lease, anyServer bool) (Lease, error)
	close()
}

func (n Network) client(ctx context.Context, card *net.Interface) (client, error) {
	if n.Server.Is6() {
		return newDHCP6Client(ctx, card)
	}
	return newDHCPClient(ctx, card)
}

// first asks for an address on all cards at once; the first that gets one
// wins.
func (n Network) first(ctx context.Context, cards []net.Interface) (Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	type result struct {
		lease Lease
		err   error
	}
	results := make(chan result, len(cards))
	for _, card := range cards {
		go func() {
			c, err := n.client(ctx, &card)
			if err != nil {
				results <- result{err: err}
				return
			}
			defer c.close()
			lease, err := c.acquire(ctx)
			results <- result{lease, err}
		}()
	}
	var trouble []error
	for range cards {
		r := <-results
		if r.err == nil {
			return r.lease, nil
		}
		trouble = append(trouble, r.err)
	}
	return Lease{}, errors.Join(trouble...)
}

// configure gives a card its address, and the machine its way out.
func configure(l Lease) error {
	link, err := netlink.LinkByName(l.Iface)
	if err != nil {
		return fmt.Errorf("configure %s: %w", l.Iface, err)
	}
	if l.own {
		return nil // the kernel made the address, and has it already
	}
	if err := netlink.AddrReplace(link, l.netlinkAddr()); err != nil {
		return fmt.Errorf("give %s the address %s: %w", l.Iface, l.Prefix, err)
	}
	if !l.Router.IsValid() || l.Router.IsUnspecified() {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: l.Router.AsSlice()}
	if !l.Prefix.Contains(l.Router) {
		route.Flags = int(netlink.FLAG_ONLINK)
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route through %s: %w", l.Router, err)
	}
	return nil
}

// drop takes an address away that we may not use any more.
func drop(l Lease) {
	link, err := netlink.LinkByName(l.Iface)
	if err != nil {
		return
	}
	_ = netlink.AddrDel(link, l.netlinkAddr())
}

// Keep renews the lease until ctx is done, and asks for a new one when it is
// lost.
func (n Network) Keep(ctx context.Context, l Lease) {
	for ctx.Err() == nil {
		if l.own {
			return // the routers' advertisements keep it
		}
		next, err := n.extend(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			l = next
			continue
		}
		n.Log.Warn("DHCP lease lost", "addr", l.Prefix, "err", err)
		drop(l)
		n.MAC = l.MAC.String()
		if l, err = n.Up(ctx); err != nil {
			return
		}
		n.Log.Info("network is up again", "iface", l.Iface, "addr", l.Prefix)
	}
}

// extend waits for its time and renews: at T1 from the server, at T2 from
// anyone, until the lease is over.
func (n Network) extend(ctx context.Context, l Lease) (Lease, error) {
	card, err := net.InterfaceByName(l.Iface)
	if err != nil {
		return l, err
	}
	begun := time.Now()
	over, cancel := context.WithDeadline(ctx, begun.Add(l.Time))
	defer cancel()
	if err := retry.Pause(over, l.renewal); err != nil {
		return l, err
	}
	for {
		late := time.Since(begun) > l.rebind || !l.Server.IsValid()
		next, err := n.ask(over, card, l, late)
		if err == nil && next.Prefix == l.Prefix {
			return next, nil
		}
		if err == nil || errors.Is(err, errNak) || over.Err() != nil {
			return l, cmp.Or(err, errNak)
		}
		// Half of what is left, but not more often than once a minute (RFC 2131 §4.4.5).
		if err := retry.Pause(over, max(time.Minute, (l.Time-time.Since(begun))/2)); err != nil {
			return l, err
		}
	}
}

func (n Network) ask(ctx context.Context, card *net.Interface, l Lease, anyServer bool) (Lease, error) {
	c, err := n.client(ctx, card)
	if err != nil {
		return l, err
	}
	defer c.close()
	return c.renew(ctx, l, anyServer)
}

// Reaches says whether an address can be reached with the lease: directly, or
// through its router. What routers IPv6 has the kernel knows: see awaitRoute.
func (l Lease) Reaches(addr netip.Addr) bool {
	return addr.Is6() || l.Prefix.Contains(addr) || l.Router.IsValid()
}
