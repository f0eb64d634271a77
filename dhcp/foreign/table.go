package foreign

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/rackstage/provision/fleet"
)

// maxServers bounds what anybody on the network can make us remember: so many
// servers, and so many routers.
const maxServers = 64

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
	addr   netip.Addr
	duid   string // of one without an address
	iface  string // or the subnet, of those behind relays
	router bool
}

// toldOf is the key of a server that we did not hear ourselves.
func toldOf(s Server, subnet string) key {
	return key{addr: s.Addr, duid: s.DUID, iface: "subnet " + subnet}
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
				s.Subnet = t.subnetOf(s)
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
			t.o.Alarms.Clear(a.code, a.on)
		}
	}
	for a, s := range after {
		if _, stood := before[a]; !stood {
			t.o.Alarms.Raise(a.code, a.on, s.accusation())
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
	better := overheard
	if probed {
		better = asked
	}
	k := key{addr: r.Server, iface: n.Name, router: r.Router}
	t.change(func() {
		s := t.server(k, n.Name, better)
		if s == nil {
			return
		}
		s.MAC, s.Relay, s.DUID, s.network = fleet.MAC(r.MAC.String()), r.Relay, r.DUID, n
		s.Router, s.Advert, s.Twin = r.Router, r.Advert, r.Twin
		s.Probed = s.Probed || probed
		s.Proxy = s.Proxy || r.proxy()
		s.Full = s.Full || r.full()
		if r.Addr.IsValid() {
			s.Offers = netip.PrefixFrom(r.Addr, cmp.Or(r.Bits, 32))
		}
		if !r.NAK {
			s.File = r.File
		}
		s.Subnet = t.subnetOf(s)
		// What clients said of it.
		delete(t.servers, toldOf(Server{Addr: s.Addr}, s.Subnet))
		delete(t.servers, toldOf(Server{DUID: s.DUID}, s.Subnet))
	})
	t.again(k)
}

// again raises the alarm of a server that was heard again; the caller holds
// mu.
func (t *table) again(k key) {
	if s := t.servers[k]; s != nil && !s.Expected && s.Subnet != "" && s.Replies > 1 {
		t.o.Alarms.Raise(s.alarm().code, s.alarm().on, s.accusation())
	}
}

// chosen notes that a client behind a relay, or beside us, named another
// server: by its address, or by its DUID. It says less than a reply, which
// comes first where there is one.
func (t *table) chosen(named Server, subnet string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told.take(t.o.Now(), repliesPerSecond) {
		t.stats.limited.Add(1)
		return
	}
	for _, s := range t.servers {
		same := s.Addr == named.Addr || named.DUID != "" && s.DUID == named.DUID
		if same && s.Subnet == subnet && s.MAC != "" && !s.Router {
			return
		}
	}
	k := toldOf(named, subnet)
	t.change(func() {
		if s := t.server(k, "", hearsay); s != nil {
			s.DUID, s.Subnet, s.Full = named.DUID, subnet, true
		}
	})
	t.again(k)
}

// relayed takes in what a relay of ours heard: it listens and asks as we do,
// on a network that we have no leg in.
func (t *table) relayed(subnet string, heard Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := toldOf(Server{Addr: heard.Addr}, subnet)
	k.router = heard.Router
	t.change(func() {
		if s := t.server(k, "", asked); s != nil {
			s.Subnet, s.MAC, s.DUID, s.Relay, s.Probed = subnet, heard.MAC, heard.DUID, heard.Relay, true // the relay says it for as long as it is so
			s.Edge, s.Router, s.Advert = heard.Edge, heard.Router, heard.Advert
			s.network = Network{Addrs: []netip.Prefix{netip.PrefixFrom(heard.Relay, heard.Relay.BitLen())}}
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
		if t.count(k.router) >= maxServers && !t.makeRoom(k.router, p) {
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

// count is how many routers there are, or how many servers; the caller holds
// mu.
func (t *table) count(routers bool) (n int) {
	for k := range t.servers {
		if k.router == routers {
			n++
		}
	}
	return n
}

// makeRoom forgets one of the servers, or of the routers, that are known worst,
// if that is worse than p: the one that was heard of least often, and of those
// the newest. The caller holds mu.
func (t *table) makeRoom(router bool, p proof) bool {
	var worst key
	found := false
	for k, s := range t.servers {
		if k.router != router || s.proof() >= p {
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

// sorted returns the servers, the first that was seen first; the caller holds
// mu.
func (t *table) sorted() []*Server {
	list := make([]*Server, 0, len(t.servers))
	for _, s := range t.servers {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Server) int {
		return cmp.Or(a.First.Compare(b.First), a.Addr.Compare(b.Addr), strings.Compare(a.DUID, b.DUID), strings.Compare(a.Iface, b.Iface))
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
