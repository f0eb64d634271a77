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
// at the address that they say is theirs. Nobody vouches for that: it tells whose
// evidence the fetching of a file is, as a DISCOVER in a machine's name does, and
// gives access to nothing.
//
// There are two generations of them: when the young one is full, or old, the
// other one is forgotten.
type tenants struct {
	mu         sync.Mutex
	young, old map[netip.Addr]tenant
	began      time.Time // of the young one
}

type tenant struct {
	mac  fleet.MAC
	said time.Time
}

const (
	tenantsKept = 32 << 10         // in a generation
	tenancy     = 30 * time.Minute // as long as a boot takes, with somebody before its menu
)

func (t *tenants) note(addr netip.Addr, mac fleet.MAC, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.young) >= tenantsKept || now.Sub(t.began) > tenancy {
		t.young, t.old, t.began = nil, t.young, now
	}
	if t.young == nil {
		t.young = map[netip.Addr]tenant{}
	}
	t.young[addr] = tenant{mac, now}
}

func (t *tenants) at(addr netip.Addr, now time.Time) (fleet.MAC, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.young[addr]
	if !ok {
		found = t.old[addr]
	}
	return found.mac, found.mac != "" && now.Sub(found.said) <= tenancy
}

// TenantAt returns the machine that has said, while it booted, that it has this
// address of another server. It is for evidence, and proves nothing.
func (s *Server) TenantAt(addr netip.Addr) (fleet.MAC, bool) {
	return s.tenants.at(addr.Unmap(), s.o.Now())
}

// noteTenant notes which address a machine takes of another server: it says so
// to all when it takes it (RFC 2131 §4.3.2), and to a ProxyDHCP server
// afterwards (PXE 2.1 §2.2.3).
func (s *Server) noteTenant(sc *scene) {
	others := sc.subnet.Mode != fleet.Full && sc.subnet.Mode != fleet.Reserved
	if !others || sc.kind != dhcpv4.MessageTypeRequest || sc.boot.Firmware == pxe.NoBoot {
		return
	}
	addr := sc.client
	if !addr.IsValid() {
		addr = sc.wanted
	}
	if slices.ContainsFunc(sc.subnet.link, func(n *network) bool { return n.CIDR.Contains(addr) }) {
		s.tenants.note(addr, sc.mac, s.o.Now())
	}
}
