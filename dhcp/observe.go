package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// observe reports what a machine that wants to boot asked, and what came of
// it. What an operating system asks for is no evidence of a boot.
func (s *Server) observe(sc *scene, outcome string) {
	if sc.boot.Firmware == pxe.NoBoot {
		return
	}
	detail := fmt.Sprintf("%s from %s firmware, arch %d, subnet %s", sc.kind, sc.boot.Firmware, sc.boot.Arch, sc.subnet.Name)
	if sc.relay.IsValid() {
		detail += ", relay " + sc.relay.String()
	}
	s.o.Observer.Observe(fleet.Evidence{
		At: s.o.Now(), MAC: sc.mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(detail + ": " + outcome),
		Place: sc.place(),
	})
}

// observeAddr is observe for an address that is given, and the plan with it.
// Most clients are operating systems that renew: no text is made for them.
func (s *Server) observeAddr(sc *scene, what string, addr netip.Addr) {
	if sc.boot.Firmware == pxe.NoBoot {
		return
	}
	s.observe(sc, what+" "+addr.String()+", "+planText(sc))
}

// A ForeignServer is another DHCP server on a network of ours.
type ForeignServer struct {
	Addr     netip.Addr
	Subnet   string
	Requests int64 // that chose it
	LastSeen time.Time
}

// foreignServers is what was seen of other servers: clients name the server
// that they choose, and everybody hears it.
type foreignServers struct {
	mu   sync.Mutex
	seen []ForeignServer
}

// maxForeign is more than any network has; who sends more is lying.
const maxForeign = 64

// note counts a sighting and reports whether it is the first.
func (f *foreignServers) note(addr netip.Addr, subnet string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.seen, func(s ForeignServer) bool { return s.Addr == addr && s.Subnet == subnet })
	if i >= 0 {
		f.seen[i].Requests++
		f.seen[i].LastSeen = now
		return false
	}
	if len(f.seen) >= maxForeign {
		return false
	}
	f.seen = append(f.seen, ForeignServer{Addr: addr, Subnet: subnet, Requests: 1, LastSeen: now})
	return true
}

func (f *foreignServers) list() []ForeignServer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (s *Server) noteForeign(sc *scene) {
	if sc.kind != dhcpv4.MessageTypeRequest || !sc.chosen.IsValid() || s.ifaces.own(sc.chosen) {
		return
	}
	s.stats.foreign.Add(1)
	if s.foreign.note(sc.chosen, sc.subnet.Name, s.o.Now()) && sc.subnet.Mode != fleet.Proxy {
		s.o.Log.Warn("another dhcp server was chosen", "addr", sc.chosen, "subnet", sc.subnet.Name, "mac", sc.mac)
	}
}
