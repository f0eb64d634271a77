package dhcp

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A network is a subnet, prepared for packets. It never changes.
type network struct {
	fleet.Subnet
	link    []*network // all on its wire, itself first
	options []fleet.DHCPOption

	byMAC    map[fleet.MAC]*fleet.Reservation
	byClient map[string]*fleet.Reservation // by the bytes of option 61
	byPort   map[port]*fleet.Reservation
	classes  []class
}

// A port is where a client is plugged in: the bytes of circuit and remote id.
// Either may be empty, and then does not matter.
type port struct{ circuit, remote string }

// A class is a class of clients, its identifiers as bytes.
type class struct {
	*fleet.DHCPClass
	at    port
	shelf int // of the network's addresses: 0 are those for everybody
}

// networks is all that is declared: a snapshot that packets read without a
// lock.
type networks struct {
	sorted []*network // by first address; they do not overlap
	pools  map[fleet.PoolName][]fleet.DHCPOption
	relays map[netip.Addr]bool // those that some subnet names
	asking map[netip.Addr]bool // of them, those of subnets that are served: they may query leases
}

func newNetworks(subnets []fleet.Subnet, pools []fleet.Pool) *networks {
	all := &networks{pools: make(map[fleet.PoolName][]fleet.DHCPOption), relays: make(map[netip.Addr]bool), asking: make(map[netip.Addr]bool)}
	links := make(map[string][]*network)
	for _, s := range subnets {
		if !s.CIDR.IsValid() || !s.CIDR.Addr().Is4() {
			continue
		}
		n := newNetwork(s)
		all.sorted = append(all.sorted, n)
		if s.Link != "" {
			links[s.Link] = append(links[s.Link], n)
		}
		for _, r := range s.Relays {
			all.relays[r] = true
			if s.Mode.GivesAddresses() {
				all.asking[r] = true
			}
		}
	}
	for _, n := range all.sorted {
		n.link = []*network{n}
		for _, other := range links[n.Link] {
			if other != n {
				n.link = append(n.link, other)
			}
		}
	}
	slices.SortFunc(all.sorted, func(a, b *network) int { return a.CIDR.Addr().Compare(b.CIDR.Addr()) })
	for _, p := range pools {
		if len(p.Options) > 0 {
			all.pools[p.Name] = p.Options
		}
	}
	return all
}

func newNetwork(s fleet.Subnet) *network {
	n := &network{
		Subnet: s, options: subnetOptions(s), byMAC: make(map[fleet.MAC]*fleet.Reservation),
		byClient: make(map[string]*fleet.Reservation), byPort: make(map[port]*fleet.Reservation),
	}
	for i := range s.Reservations {
		r := &s.Reservations[i]
		switch {
		case r.MAC != "":
			n.byMAC[r.MAC] = r
		case r.ClientID != "":
			n.byClient[unhex(r.ClientID)] = r
		default:
			n.byPort[port{unhex(r.CircuitID), unhex(r.RemoteID)}] = r
		}
	}
	shelves := 1
	for i := range s.Classes {
		c := class{DHCPClass: &s.Classes[i], at: port{unhex(s.Classes[i].Match.CircuitID), unhex(s.Classes[i].Match.RemoteID)}}
		if len(c.Ranges) > 0 {
			c.shelf = shelves
			shelves++
		}
		n.classes = append(n.classes, c)
	}
	return n
}

// unhex returns the bytes that site.yaml's identifiers are kept as. One that
// is not hex was never valid; it matches nobody.
func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		return s
	}
	return string(b)
}

// of returns the network that an address is in; nil when none is declared.
func (all *networks) of(a netip.Addr) *network {
	if !a.Is4() {
		return nil
	}
	i, found := slices.BinarySearchFunc(all.sorted, a, func(n *network, a netip.Addr) int { return n.CIDR.Addr().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !all.sorted[i].CIDR.Contains(a) {
		return nil
	}
	return all.sorted[i]
}

// isAlone reports whether no other server gives out addresses on a network, so
// that a client which we do not know can be told that it has none. Where
// site.yaml says that others belong there, they may know it.
func (n *network) isAlone() bool { return n.Mode == fleet.Full && len(n.KnownDHCP) == 0 }

// onLink returns the network of this wire that an address is in; nil when it
// is none of them.
func (n *network) onLink(a netip.Addr) *network {
	for _, m := range n.link {
		if m.CIDR.Contains(a) {
			return m
		}
	}
	return nil
}

// reservation returns what is reserved for a client: by its MAC, by its own
// identifier, or by the port that it is plugged into, the closest fit first.
func (n *network) reservation(q *query) *fleet.Reservation {
	if r := n.byMAC[q.mac]; r != nil {
		return r
	}
	if id := q.msg.option(61); len(n.byClient) > 0 && len(id) > 0 {
		if r := n.byClient[string(id)]; r != nil {
			return r
		}
	}
	if info := q.msg.option(82); len(n.byPort) > 0 && q.believed && len(info) > 0 {
		circuit, remote := string(suboption(info, subCircuitID)), string(suboption(info, subRemoteID))
		for _, at := range []port{{circuit, remote}, {circuit, ""}, {"", remote}} {
			if r := n.byPort[at]; r != nil && at != (port{}) {
				return r
			}
		}
	}
	return nil
}

// classOf returns the first class that matches a client; nil for none.
func (n *network) classOf(q *query) *class {
	for i := range n.classes {
		if n.classes[i].matches(q) {
			return &n.classes[i]
		}
	}
	return nil
}

func (c *class) matches(q *query) bool {
	m := &c.Match
	switch {
	case m.Vendor != "" && !strings.HasPrefix(string(q.msg.option(60)), m.Vendor),
		m.User != "" && !pxe.HasUserClass(q.msg.option(77), m.User),
		m.MACPrefix != "" && !strings.HasPrefix(string(q.mac), m.MACPrefix),
		len(m.Arch) > 0 && (q.msg.option(93) == nil || !slices.Contains(m.Arch, int(q.arch()))):
		return false
	}
	// Who has no relay of ours in front of it can write any option 82.
	if c.at == (port{}) {
		return true
	}
	info := q.msg.option(82)
	return q.believed && strings.HasPrefix(string(suboption(info, subCircuitID)), c.at.circuit) && strings.HasPrefix(string(suboption(info, subRemoteID)), c.at.remote)
}
