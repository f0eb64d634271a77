package dhcp

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// interfaces is what addresses our network cards have. It is read again every
// few seconds: asking the kernel for each packet would cost more than the
// packet itself.
type interfaces struct {
	names []string // only these; empty: all

	mu     sync.RWMutex
	byIdx  map[int][]netip.Prefix
	owners map[netip.Addr]bool
	cards  map[int]net.HardwareAddr
}

// refresh reads the addresses and reports whether they have changed.
func (f *interfaces) refresh() (changed bool, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return false, err
	}
	byIdx, owners, cards := make(map[int][]netip.Prefix), make(map[netip.Addr]bool), make(map[int]net.HardwareAddr)
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		prefixes := ipv4Prefixes(addrs)
		for _, p := range prefixes {
			owners[p.Addr()] = true
		}
		if len(f.names) == 0 || slices.Contains(f.names, i.Name) {
			byIdx[i.Index], cards[i.Index] = prefixes, i.HardwareAddr
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed = !maps.Equal(owners, f.owners)
	f.byIdx, f.owners, f.cards = byIdx, owners, cards
	return changed, nil
}

func ipv4Prefixes(addrs []net.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP.To4())
		if !ok {
			continue
		}
		ones, _ := n.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(ip, ones))
	}
	return prefixes
}

// addrs returns the addresses of an interface; served is false when we shall
// not answer on it.
func (f *interfaces) addrs(index int) (prefixes []netip.Prefix, served bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	prefixes, served = f.byIdx[index]
	return prefixes, served
}

func (f *interfaces) own(a netip.Addr) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.owners[a]
}

func (f *interfaces) all() map[netip.Addr]bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.owners)
}

// byIndex returns the addresses of all interfaces that we answer on.
func (f *interfaces) byIndex() map[int][]netip.Prefix {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.byIdx)
}

// near returns the interface that has an address of the network that a is in,
// and its hardware address. It fails for what is behind a router.
func (f *interfaces) near(a netip.Addr) (index int, card net.HardwareAddr, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for index, prefixes := range f.byIdx {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return index, f.cards[index], true
		}
	}
	return 0, nil, false
}
