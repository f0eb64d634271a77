// Package links knows the network interfaces of this machine, and which
// addresses they have, for the servers of both address families.
//
// A [Table] is read again every few seconds: asking the kernel for each packet
// would cost more than the packet itself.
package links

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/internal/repeat"
)

// RefreshEvery is how soon a new address of an interface is noticed.
const RefreshEvery = 5 * time.Second

// A Link is a network interface with its addresses.
type Link struct {
	Index    int
	Name     string
	Hardware net.HardwareAddr
	Local    netip.Addr // its link-local IPv6 address, without zone; invalid when it has none
	Prefixes []netip.Prefix
}

// Own reports whether the link has an address.
func (l Link) Own(a netip.Addr) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
}

// A Table is the links that we answer on, and the addresses of all.
type Table struct {
	names []string // only these; empty: all
	want  func(netip.Addr) bool

	mu     sync.RWMutex
	served map[int]Link
	owners map[netip.Addr]bool // addresses of all links, served or not
}

// New returns a table that is empty until it is refreshed. Without names all
// links are served; addresses that are not wanted are not kept.
func New(names []string, want func(netip.Addr) bool) *Table {
	return &Table{names: slices.Clone(names), want: want}
}

// Refresh reads the addresses and reports whether they have changed.
func (t *Table) Refresh() (changed bool, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return false, err
	}
	var found []Link
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		l := Link{Index: i.Index, Name: i.Name, Hardware: i.HardwareAddr}
		l.read(addrs, t.want)
		found = append(found, l)
	}
	return t.Put(found...), nil
}

// Put has the table hold these links, as if the kernel had them, and reports
// whether their addresses are others than before.
func (t *Table) Put(found ...Link) (changed bool) {
	served, owners := make(map[int]Link), make(map[netip.Addr]bool)
	for _, l := range found {
		for _, p := range l.Prefixes {
			owners[p.Addr()] = true
		}
		if len(t.names) == 0 || slices.Contains(t.names, l.Name) {
			served[l.Index] = l
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = !maps.Equal(owners, t.owners)
	t.served, t.owners = served, owners
	return changed
}

func (l *Link) read(addrs []net.Addr, want func(netip.Addr) bool) {
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			l.Local = ip
			continue
		}
		if !want(ip) {
			continue
		}
		ones, bits := n.Mask.Size()
		if bits != ip.BitLen() {
			ones = ip.BitLen()
		}
		l.Prefixes = append(l.Prefixes, netip.PrefixFrom(ip, ones))
	}
}

// Follow refreshes the table until ctx is done. changed is told all addresses
// when they are others than before.
func (t *Table) Follow(ctx context.Context, log *slog.Logger, changed func(owned map[netip.Addr]bool)) {
	repeat.Every(ctx, RefreshEvery, func() {
		switch other, err := t.Refresh(); {
		case err != nil:
			log.WarnContext(ctx, "interfaces not read", "err", err)
		case other:
			changed(t.Owned())
		}
	})
}

// Get returns a link; served is false when we shall not answer on it.
func (t *Table) Get(index int) (l Link, served bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l, served = t.served[index]
	return l, served
}

// All returns the links that we answer on, in order.
func (t *Table) All() []Link {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.SortedFunc(maps.Values(t.served), func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
}

// Near returns the link that has an address of the network that a is in. It
// fails for what is behind a router.
func (t *Table) Near(a netip.Addr) (Link, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, l := range t.served {
		if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return l, true
		}
	}
	return Link{}, false
}

// Own reports whether an address is ours, on whatever link.
func (t *Table) Own(a netip.Addr) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.owners[a]
}

// Owned returns our addresses.
func (t *Table) Owned() map[netip.Addr]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.owners)
}
