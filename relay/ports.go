package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// findPorts looks up our interfaces and their addresses, when we start: each
// has to have one, though the kernel may not be sure of it yet.
func (r *Relay) findPorts() error {
	all, err := readAddrs()
	if err != nil {
		return err
	}
	var ports []port
	for _, name := range r.o.Interfaces {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return fleet.Invalidf("interface "+name, "see: ip address", err)
		}
		p := port{name: name, index: ifi.Index}
		p.take(all[ifi.Index])
		if len(p.addrs())+len(p.doubtful) == 0 {
			return fleet.Invalidf("interface "+name, "give it one: ip address add ADDRESS/BITS dev "+name, errors.New("it has no address that machines could reach"))
		}
		ports = append(ports, p)
	}
	r.places.Store(&ports)
	return nil
}

// lookAgain reports whether addresses have come or gone since. An interface
// that is away has none.
func (r *Relay) lookAgain() (changed bool, err error) {
	all, err := readAddrs()
	if err != nil {
		return false, err
	}
	var ports []port
	for _, name := range r.o.Interfaces {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		p := port{name: name, index: ifi.Index}
		if was, ok := r.portByIndex(ifi.Index); ok {
			p = was
		}
		p.take(all[ifi.Index])
		ports = append(ports, p)
	}
	changed = !slices.EqualFunc(ports, r.ports(), port.same)
	r.places.Store(&ports)
	return changed, nil
}

func (p port) same(q port) bool {
	return p.name == q.name && p.index == q.index && p.addr == q.addr && slices.Equal(p.six, q.six)
}

// readAddrs reads the addresses of all interfaces, by index.
func readAddrs() (map[int][]netlink.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for range 3 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) { // they changed meanwhile
			break
		}
		list, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	all := map[int][]netlink.Addr{}
	for _, a := range list {
		all[a.LinkIndex] = append(all[a.LinkIndex], a)
	}
	return all, nil
}

// take notes the addresses that a port has now. Those that it had stay in
// front: what the server knows us by does not change for one that comes.
func (p *port) take(addrs []netlink.Addr) {
	var four []netip.Prefix
	was := slices.Concat([]netip.Prefix{p.addr}, p.six)
	p.six, p.ending, p.doubtful, p.refused = nil, nil, nil, nil
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		on := netip.PrefixFrom(ip.Unmap(), bits)
		switch {
		case !ok || !on.IsValid() || on.Addr().IsLinkLocalUnicast():
		case on.Addr().Is4():
			four = append(four, on)
		case a.Flags&unix.IFA_F_TEMPORARY != 0: // for going out with; it ends in a day
		case a.Flags&unix.IFA_F_DADFAILED != 0:
			p.refused = append(p.refused, on.Addr())
		case a.Flags&unix.IFA_F_TENTATIVE != 0 && !slices.Contains(was, on):
			p.doubtful = append(p.doubtful, on.Addr())
		case a.Flags&unix.IFA_F_DEPRECATED != 0 && a.Flags&unix.IFA_F_PERMANENT == 0:
			p.ending = append(p.ending, on.Addr())
		default:
			p.six = append(p.six, on)
		}
	}
	oldFirst := func(a, b netip.Prefix) int { return rank(was, a) - rank(was, b) }
	slices.SortStableFunc(p.six, oldFirst)
	slices.SortStableFunc(four, oldFirst)
	p.addr = netip.Prefix{}
	if len(four) > 0 {
		p.addr = four[0]
	}
}

// rank is an address's place among those that there were, or behind them.
func rank(was []netip.Prefix, a netip.Prefix) int {
	if i := slices.Index(was, a); i >= 0 {
		return i
	}
	return len(was)
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
