package dhcp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// Tenants are machines that boot where another server gives out the addresses,
// at the address that they say is theirs. Whoever is on their wire can say so too:
// it tells whose evidence the fetching of a file is, as a DISCOVER in a machine's
// name does, and gives access to nothing. From elsewhere only those can whose router
// lets forged sources pass: see [Server.noteTenant].
//
// There are two generations of them: when the young one is full, or old, the
// other one is forgotten.
type tenants struct {
	mu         sync.Mutex
	young, old map[netip.Addr]tenant
	began      time.Time // of the young one
	forgotten  int64     // that were young still, because there were too many
}

type tenant struct {
	mac  fleet.MAC
	said time.Time
	near bool // by broadcast, which no router passes on, or to a relay that is believed
}

const (
	tenantsKept = 32 << 10         // in a generation
	tenancy     = 30 * time.Minute // as long as a boot takes, with somebody before its menu
	movesIn     = 2 * time.Minute  // after another machine said so: no server gives an address to two at once
)

// note reports whether it believes a machine: not when another one has just said
// that it is there, as near as this one.
func (t *tenants) note(addr netip.Addr, who tenant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := who.said
	if other := t.find(addr); other.mac != "" && other.mac != who.mac && now.Sub(other.said) < movesIn && (other.near || !who.near) {
		return false
	}
	if full := len(t.young) >= tenantsKept; full || now.Sub(t.began) > tenancy {
		if full {
			t.forgotten += int64(len(t.old))
		}
		t.young, t.old, t.began = nil, t.young, now
	}
	if t.young == nil {
		t.young = map[netip.Addr]tenant{}
	}
	t.young[addr] = who
	return true
}

// find returns who is at an address; the caller holds mu.
func (t *tenants) find(addr netip.Addr) tenant {
	if found, ok := t.young[addr]; ok {
		return found
	}
	return t.old[addr]
}

func (t *tenants) at(addr netip.Addr, now time.Time) (fleet.MAC, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.find(addr)
	return found.mac, found.mac != "" && now.Sub(found.said) <= tenancy
}

func (t *tenants) lost() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.forgotten
}

// TenantAt returns the machine that has said, while it booted, that it has this
// address of another server, as long as others give out the addresses there. It is
// for evidence, and proves nothing.
func (s *Server) TenantAt(addr netip.Addr) (fleet.MAC, bool) {
	addr = addr.Unmap()
	if n := s.nets.Load().of(addr); n == nil || !n.othersGive() {
		return "", false
	}
	return s.tenants.at(addr, s.o.Now())
}

// othersGive reports whether another server gives out the addresses of a network.
func (n *network) othersGive() bool { return !n.Mode.GivesAddresses() }

// noteTenant notes which address a machine takes of another server: it says so
// to all when it takes it (RFC 2131 §4.3.2), and to a ProxyDHCP server
// afterwards (PXE 2.1 §2.2.3). It counts what was said on the machine's own wire,
// from no address or from that very one, or to a relay that is believed: anybody
// anywhere can write the address of a relay, or of another machine, into a packet.
func (s *Server) noteTenant(sc *scene) {
	if !sc.subnet.othersGive() || sc.kind != dhcpv4.MessageTypeRequest || sc.boot.Firmware == pxe.NoBoot {
		return
	}
	addr := sc.client
	if !addr.IsValid() {
		addr = sc.wanted
	}
	n := s.nets.Load().of(addr)
	if n == nil || !n.othersGive() || !slices.Contains(sc.subnet.link, n) {
		return
	}
	from := sc.from.Addr()
	near, vouched := sc.believed, sc.believed
	if !sc.relay.IsValid() {
		near = from.IsUnspecified()
		vouched = near || from == addr
	}
	if !vouched || !s.tenants.note(addr, tenant{sc.mac, s.o.Now(), near}) {
		s.stats.tenantsRefused.Add(1)
	}
}
