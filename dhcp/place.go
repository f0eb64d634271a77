package dhcp

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A place is an address that somebody has, had, or is about to get. There are
// a million of them on a large site, so it is small, and without pointers: the
// garbage collector has nothing to look for in it. Names of clients, which few
// of them say, are with the ledger.
type place struct {
	ip      uint32
	index   int32 // in one of the heaps of the shelf; -1 when it has none
	shelf   uint16
	storing int16 // leases of it on their way to the disk; until they are there it is nobody else's
	lease   tenure

	offered  hwaddr // who may take it, until then; also while the lease is being stored
	stranger bool   // who has it, or had it last, was approved by nobody
	probing  bool   // somebody is being asked there

	until   instant
	checked instant // when nobody answered there last
	due     instant // never later than freeAt: see shelf.oldest
}

// noShelf is the shelf of an address outside of the ranges.
const noShelf = 1<<16 - 1

// A tenure is a lease as it is on disk, less what its place and its ledger
// know.
type tenure struct {
	expires instant
	mac     hwaddr
	state   tenureState
	id      idKind
}

type tenureState uint8

const (
	noLease tenureState = iota
	leaseBound
	leaseReleased
	leaseDeclined
)

var tenureStates = map[fleet.LeaseState]tenureState{
	fleet.LeaseBound: leaseBound, fleet.LeaseReleased: leaseReleased, fleet.LeaseDeclined: leaseDeclined,
}

var leaseStates = [...]fleet.LeaseState{"", fleet.LeaseBound, fleet.LeaseReleased, fleet.LeaseDeclined}

// An idKind says what a client's identifier (option 61) is.
type idKind uint8

const (
	noID    idKind = iota
	macID          // hardware type and MAC, as nearly everybody sends it
	otherID        // the ledger knows
)

// names are what a client says of itself, beyond its MAC.
type names struct{ hostname, id string }

// tenure takes a lease apart.
func (l *ledger) tenure(lease *fleet.Lease) (tenure, names) {
	t := tenure{expires: l.clock.of(lease.Expires), mac: hwOf(lease.MAC), state: tenureStates[lease.State]}
	n := names{hostname: lease.Hostname}
	switch {
	case lease.ClientID == "":
	case lease.ClientID == t.mac.id():
		t.id = macID
	default:
		t.id, n.id = otherID, lease.ClientID
	}
	return t, n
}

// lease writes it in full.
func (l *ledger) lease(p *place) fleet.Lease { return l.write(p, l.names[p.ip]) }

func (l *ledger) write(p *place, n names) fleet.Lease {
	if p.lease.state == noLease {
		return fleet.Lease{}
	}
	lease := fleet.Lease{
		Addr: p.addr(), Subnet: l.net.Name, State: leaseStates[p.lease.state], Expires: l.clock.time(p.lease.expires),
	}
	if p.lease.mac != (hwaddr{}) {
		lease.MAC = macOf(p.lease.mac)
	}
	lease.Hostname, lease.ClientID = n.hostname, n.id
	if p.lease.id == macID {
		lease.ClientID = p.lease.mac.id()
	}
	return lease
}

func (p *place) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{byte(p.ip >> 24), byte(p.ip >> 16), byte(p.ip >> 8), byte(p.ip)})
}

// holder returns who has the address now. A declined address is held by
// nobody that could be named: busy is true and the name is empty.
func (p *place) holder(now instant) (hw hwaddr, busy bool) {
	if p.storing > 0 || (p.offered != hwaddr{} && now < p.until) {
		return p.offered, true
	}
	if p.lease.state != noLease && now < p.lease.expires {
		if p.lease.state == leaseBound {
			return p.lease.mac, true
		}
		return hwaddr{}, true
	}
	return hwaddr{}, false
}

func (p *place) freeFor(hw hwaddr, now instant) bool {
	holder, busy := p.holder(now)
	return !busy || holder == hw
}

// freeAt returns when the address can be given to anybody.
func (p *place) freeAt() instant {
	if p.offered != (hwaddr{}) {
		return max(p.until, p.lease.expires)
	}
	return p.lease.expires
}

// A hwaddr is a MAC in six bytes; zero is nobody's.
type hwaddr [6]byte

// hwOf reads a MAC; zero when it is none.
func hwOf(m fleet.MAC) (hw hwaddr) {
	if len(m) == 17 {
		for i := range hw {
			hw[i] = nibble(m[3*i])<<4 | nibble(m[3*i+1])
		}
	}
	return hw
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c & 15
}

// id is the client identifier that most clients send: the hardware type and
// the MAC, in hex.
func (hw hwaddr) id() string {
	const digits = "0123456789abcdef"
	b := [14]byte{'0', '1'}
	for i, v := range hw {
		b[2+2*i], b[3+2*i] = digits[v>>4], digits[v&15]
	}
	return string(b[:])
}

// An instant is a time in nanoseconds since 1970; zero is before everything.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixNano())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

func (i instant) add(d time.Duration) instant       { return i + instant(d) }
func (i instant) since(other instant) time.Duration { return time.Duration(i - other) }
