package dhcp6

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// A link is a network card and its addresses, of both families.
type link struct {
	index    int
	name     string
	hardware net.HardwareAddr
	local    netip.Addr // its link-local address, without zone; invalid when it has none
	prefixes []netip.Prefix
}

func (l link) own(a netip.Addr) bool {
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
}

// links is our network cards. They are read again every few seconds.
type links struct {
	names []string // only these; empty: all

	mu     sync.RWMutex
	byIdx  map[int]link
	owners map[netip.Addr]bool // addresses of all cards, served or not
}

// refresh reads the addresses and reports whether they have changed.
func (f *links) refresh() (changed bool, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return false, err
	}
	byIdx, owners := make(map[int]link), make(map[netip.Addr]bool)
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		l := link{index: i.Index, name: i.Name, hardware: i.HardwareAddr}
		l.read(addrs)
		for _, p := range l.prefixes {
			owners[p.Addr()] = true
		}
		if len(f.names) == 0 || slices.Contains(f.names, i.Name) {
			byIdx[i.Index] = l
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed = !maps.Equal(owners, f.owners)
	f.byIdx, f.owners = byIdx, owners
	return changed, nil
}

func (l *link) read(addrs []net.Addr) {
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
			l.local = ip
			continue
		}
		ones, bits := n.Mask.Size()
		if bits != ip.BitLen() {
			ones = ip.BitLen()
		}
		l.prefixes = append(l.prefixes, netip.PrefixFrom(ip, ones))
	}
}

func (f *links) get(index int) (link, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	l, ok := f.byIdx[index]
	return l, ok
}

// all returns the cards that we answer on, in order.
func (f *links) all() []link {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.SortedFunc(maps.Values(f.byIdx), func(a, b link) int { return a.index - b.index })
}

func (f *links) owned() map[netip.Addr]bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.owners)
}

func (f *links) own(a netip.Addr) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.owners[a]
}
