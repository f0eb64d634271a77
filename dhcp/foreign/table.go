package foreign

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Server is another DHCP server.
type Server struct {
	Addr   netip.Addr
	MAC    fleet.MAC // of it, or of the relay that its answers come through; "": behind a relay, seen by what clients say
	Iface  string    // it was seen on
	Subnet string    // "" where none is declared
	Relay  netip.Addr

	Full   bool         // gives addresses
	Proxy  bool         // gives boot information to those who have addresses
	Offers netip.Prefix // an address that it offers, and the network that it says this is in
	File   string       // that it tells machines to boot; hostile text

	Expected bool // it belongs there
	Probed   bool // it answers our probes
	Replies  int64
	First    time.Time
	Last     time.Time

	network Network
}

// maxServers bounds what anybody on the network can make us remember.
const maxServers = 64

// A proof is how well we know that a server is there. When there are too many,
// those that are known least make room: who makes up servers never drives one
// out that answers.
type proof int

const (
	hearsay   proof = iota // a client named it
	overheard              // a reply to somebody came from it
	asked                  // it answers probes, ours or those of a relay of ours
)

func (s *Server) proof() proof {
	switch {
	case s.Probed:
		return asked
	case s.MAC != "":
		return overheard
	default:
		return hearsay
	}
}

// A table is the servers that answer now.
type table struct {
	o     *Options
	stats *counters

	mu      sync.Mutex
	told    limiter // of what clients say
	subnets []fleet.Subnet
	servers map[key]*Server
}

// A key is what makes a server another one. Its hardware address does not:
// behind a failing switch or a flood it changes with each packet.
type key struct {
	addr  netip.Addr
	iface string // or the subnet, of those behind relays
}

func newTable(o *Options, stats *counters) *table {
	return &table{o: o, stats: stats, servers: map[key]*Server{}}
}

func (t *table) setSubnets(subnets []fleet.Subnet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change(func() {
		t.subnets = subnets
		for k, s := range t.servers {
			if s.Iface != "" {
				s.Subnet = t.subnetOf(*s)
			} else if !slices.ContainsFunc(subnets, func(n fleet.Subnet) bool { return n.Name == s.Subnet }) {
				delete(t.servers, k)
			}
		}
	})
}

// change does something to the table, and then judges the servers anew:
// alarms that no longer hold are cleared, new ones raised. The caller holds
// mu.
func (t *table) change(fn func()) {
	before := t.alarms()
	fn()
	t.judge()
	after := t.alarms()
	for a := range before {
		if _, stands := after[a]; !stands {
			t.o.Alarms.Clear(a.code(), a.on())
		}
	}
	for a, s := range after {
		if _, stood := before[a]; !stood {
			t.o.Alarms.Raise(a.code(), a.on(), s.Words())
		}
	}
}

// alarms are the servers that do not belong where they are; the caller holds
// mu.
func (t *table) alarms() map[alarm]*Server {
	all := make(map[alarm]*Server, len(t.servers))
	for _, s := range t.servers {
		if !s.Expected && s.Subnet != "" {
			all[s.alarm()] = s
		}
	}
	return all
}

// note takes a reply in.
func (t *table) note(n Network, r sighting, probed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change(func() {
		better := overheard
		if probed {
			better = asked
		}
		s := t.server(key{r.Server, n.Name}, n.Name, better)
		if s == nil {
			return
		}
		s.MAC, s.Relay, s.network = fleet.MAC(r.MAC.String()), r.Relay, n
		s.Probed = s.Probed || probed
		s.Proxy = s.Proxy || r.proxy()
		s.Full = s.Full || !r.proxy()
		if r.Addr.IsValid() {
			s.Offers = netip.PrefixFrom(r.Addr, cmp.Or(r.Bits, 32))
		}
		if !r.NAK {
			s.File = r.File
		}
		s.Subnet = t.subnetOf(*s)
		delete(t.servers, key{r.Server, "subnet " + s.Subnet}) // what clients said of it
	})
	t.again(key{r.Server, n.Name})
}

// again raises the alarm of a server that was heard again; the caller holds
// mu.
func (t *table) again(k key) {
	if s := t.servers[k]; s != nil && !s.Expected && s.Subnet != "" && s.Replies > 1 {
		t.o.Alarms.Raise(s.alarm().code(), s.alarm().on(), s.Words())
	}
}

// chosen notes that a client behind a relay, or beside us, named another
// server. It says less than a reply, which comes first where there is one.
func (t *table) chosen(server netip.Addr, subnet string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told.take(t.o.Now()) {
		t.stats.limited.Add(1)
		return
	}
	for _, s := range t.servers {
		if s.Addr == server && s.Subnet == subnet && s.MAC != "" {
			return
		}
	}
	k := key{server, "subnet " + subnet}
	t.change(func() {
		if s := t.server(k, "", hearsay); s != nil {
			s.Subnet, s.Full = subnet, true
		}
	})
	t.again(k)
}

// relayed takes in what a relay of ours heard: it listens and asks as we do,
// on a network that we have no leg in.
func (t *table) relayed(subnet string, heard Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{heard.Addr, "subnet " + subnet}
	t.change(func() {
		if s := t.server(k, "", asked); s != nil {
			s.Subnet, s.MAC, s.Relay, s.Probed = subnet, heard.MAC, heard.Relay, true // the relay says it for as long as it is so
			s.Full, s.Proxy, s.Offers, s.File = heard.Full, heard.Proxy, heard.Offers, heard.File
		}
	})
	t.again(k)
}

// server returns the entry of a key, a new one if need be; nil when there are
// too many that are known as well as this one. The caller holds mu.
func (t *table) server(k key, iface string, p proof) *Server {
	now := t.o.Now()
	s := t.servers[k]
	if s == nil {
		if len(t.servers) >= maxServers && !t.makeRoom(p) {
			t.stats.refused.Add(1)
			return nil
		}
		s = &Server{Addr: k.addr, Iface: iface, First: now}
		t.servers[k] = s
	}
	s.Last = now
	s.Replies++
	return s
}

// makeRoom forgets one of the servers that are known worst, if that is worse
// than p: the one that was heard of least often, and of those the newest. The
// caller holds mu.
func (t *table) makeRoom(p proof) bool {
	var worst key
	found := false
	for k, s := range t.servers {
		if s.proof() >= p {
			continue
		}
		w := t.servers[worst]
		if !found || cmp.Or(cmp.Compare(s.proof(), w.proof()), cmp.Compare(s.Replies, w.Replies), w.First.Compare(s.First)) < 0 {
			worst, found = k, true
		}
	}
	if found {
		delete(t.servers, worst)
		t.stats.evicted.Add(1)
	}
	return found
}

// subnetOf says which declared subnet a server stands on: the one whose
// addresses it gives away, else the one that it has an address of, else the
// first of the interface. The caller holds mu.
func (t *table) subnetOf(s Server) string {
	var here []fleet.Subnet
	for _, sub := range t.subnets {
		if slices.ContainsFunc(s.network.Addrs, func(p netip.Prefix) bool { return sub.CIDR.Contains(p.Addr()) }) {
			here = append(here, sub)
		}
	}
	for _, a := range []netip.Addr{s.Offers.Addr(), s.Addr} {
		for _, sub := range here {
			if sub.CIDR.Contains(a) {
				return sub.Name
			}
		}
	}
	if len(here) > 0 {
		return here[0].Name
	}
	return ""
}

// judge says of each server whether it belongs where it is; the caller holds
// mu.
func (t *table) judge() {
	first := map[string]*Server{} // full servers on subnets that we stand beside
	for _, s := range t.sorted() {
		sub := t.subnet(s.Subnet)
		s.Expected = slices.Contains(sub.KnownDHCP, s.Addr)
		if sub.Mode == fleet.Proxy && len(sub.KnownDHCP) == 0 && s.Full && first[sub.Name] == nil {
			first[sub.Name] = s
			s.Expected = true
		}
	}
}

func (t *table) subnet(name string) fleet.Subnet {
	i := slices.IndexFunc(t.subnets, func(n fleet.Subnet) bool { return n.Name == name })
	if i < 0 {
		return fleet.Subnet{}
	}
	return t.subnets[i]
}

// sorted returns the servers, the first that was seen first; the caller holds
// mu.
func (t *table) sorted() []*Server {
	list := make([]*Server, 0, len(t.servers))
	for _, s := range t.servers {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Server) int {
		return cmp.Or(a.First.Compare(b.First), a.Addr.Compare(b.Addr), strings.Compare(a.Iface, b.Iface))
	})
	return list
}

func (t *table) list() []Server {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Server, 0, len(t.servers))
	for _, s := range t.sorted() {
		list = append(list, *s)
	}
	return list
}

// expire forgets servers that have stopped. One that answers probes has
// missed two of them; another may just have had no client.
func (t *table) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	t.change(func() {
		for k, s := range t.servers {
			hold := fleet.AlarmHold
			if s.Probed {
				hold = 2*t.o.Every + answerTime
			}
			if now.Sub(s.Last) > hold {
				delete(t.servers, k)
			}
		}
	})
}

// clear forgets all: nobody watches any more.
func (t *table) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change(func() { clear(t.servers) })
}

// An alarm is what makes one of a server.
type alarm struct {
	addr   netip.Addr
	subnet string
	full   bool
}

func (s *Server) alarm() alarm { return alarm{s.Addr, s.Subnet, s.Full} }

func (a alarm) code() string {
	if a.full {
		return fleet.CodeRogueDHCP
	}
	return fleet.CodeRogueProxy
}

func (a alarm) on() string { return fmt.Sprintf("%s on subnet %s", a.addr, a.subnet) }

// Words says what is known of a server, in one line.
func (s Server) Words() string {
	var parts []string
	where := string(s.MAC)
	if s.Iface != "" {
		where += " on " + s.Iface
	}
	if s.Relay.IsValid() {
		where += ", through relay " + s.Relay.String()
	}
	if s.MAC == "" {
		where = "clients took its offers"
	}
	parts = append(parts, where)
	switch {
	case s.Offers.IsValid():
		parts = append(parts, "offers "+s.Offers.String())
	case s.Full:
		parts = append(parts, "gives addresses")
	default:
		parts = append(parts, "proxyDHCP")
	}
	switch {
	case s.File != "":
		parts = append(parts, "boots "+s.File)
	case s.Proxy:
		parts = append(parts, "has boot information")
	default:
		parts = append(parts, "no boot file")
	}
	return strings.Join(parts, ", ")
}
