package dhcp6

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

const (
	offerTime      = 60 * time.Second // an offer is kept so long; firmware takes its time
	quarantineTime = 10 * time.Minute
	defaultLease   = time.Hour
	unknownLease   = 5 * time.Minute
)

// A book is all leases, in memory. The disk has what was put; what is only
// offered is forgotten at a restart.
//
// One card has one address, whoever speaks from it: its firmware, iPXE, the
// ramdisk, the system. Each has a DUID and an IAID of its own, and takes over
// what the one before had. Only the IP stack of UEFI, which asks before its
// boot client does, gets an address beside.
type book struct {
	declaring sync.Mutex // held while subnets change; taken before mu

	mu      sync.Mutex
	now     func() time.Time
	ledgers []*ledger
	orphans map[netip.Addr]orphan
	touched map[netip.Addr]struct{}   // of them, those that have changed since they were copied; nil: nobody copies
	history map[string]*usage.History // by name of the subnet
}

// An orphan is a lease of no subnet that we serve.
type orphan struct {
	lease   fleet.Lease6
	unknown bool // of a machine that nobody has approved
}

func newBook(now func() time.Time) *book {
	return &book{now: now, orphans: make(map[netip.Addr]orphan), history: make(map[string]*usage.History)}
}

// configure sets the subnets, from the moment on at which it calls then. Leases
// and offers stay, each with the subnet that its address is in now.
func (b *book) configure(subnets []fleet.Subnet, own map[netip.Addr]bool, then func()) {
	b.declaring.Lock()
	defer b.declaring.Unlock()
	b.declare(subnets, own, then)
}

// reconfigure keeps the subnets and sets our own addresses.
func (b *book) reconfigure(own map[netip.Addr]bool) {
	b.declaring.Lock()
	defer b.declaring.Unlock()
	b.declare(b.subnets(), own, func() {})
}

// declare is configure; the caller holds declaring, so that nobody else changes
// which ledgers there are.
func (b *book) declare(subnets []fleet.Subnet, own map[netip.Addr]bool, then func()) {
	var ledgers, anew, former []*ledger
	for _, n := range subnets {
		if !n.CIDR.IsValid() || !n.CIDR.Addr().Is6() {
			continue
		}
		if l := ledgerOf(b.ledgers, n.CIDR); l != nil {
			ledgers = append(ledgers, l)
			continue
		}
		l := newLedger(n, own)
		ledgers, anew = append(ledgers, l), append(anew, l)
	}
	for _, l := range b.ledgers {
		if !slices.Contains(ledgers, l) {
			former = append(former, l)
		}
	}
	r := b.rebuild(former, anew)
	r.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	r.finish()
	b.ledgers = ledgers
	for _, n := range subnets {
		if l := ledgerOf(ledgers, n.CIDR); l != nil && !slices.Contains(anew, l) {
			l.redeclare(n, own)
		}
	}
	then()
}

func ledgerOf(ledgers []*ledger, cidr netip.Prefix) *ledger {
	for _, l := range ledgers {
		if l.subnet.CIDR == cidr {
			return l
		}
	}
	return nil
}

func (b *book) subnets() []fleet.Subnet {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]fleet.Subnet, len(b.ledgers))
	for i, l := range b.ledgers {
		all[i] = l.subnet
	}
	return all
}

// load enters a lease that is on disk, and whether nobody has approved the
// machine that has it.
func (b *book) load(lease fleet.Lease6, unknown bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enter(lease, unknown)
}

func (b *book) enter(lease fleet.Lease6, unknown bool) {
	l := b.ledgerOf(lease.Addr)
	if l == nil {
		b.leave(lease, unknown)
		return
	}
	l.put(lease).unknown = unknown
	l.counted = time.Time{}
}

// leave keeps a lease that is in no ledger.
func (b *book) leave(lease fleet.Lease6, unknown bool) {
	b.orphans[lease.Addr] = orphan{lease, unknown}
	if b.touched != nil {
		b.touched[lease.Addr] = struct{}{}
	}
}

func (b *book) ledgerOf(a netip.Addr) *ledger { return ledgerIn(b.ledgers, a) }

// ledgerIn returns that of some ledgers that an address is in.
func ledgerIn(ledgers []*ledger, a netip.Addr) *ledger {
	for _, l := range ledgers {
		if l.subnet.CIDR.Contains(a) {
			return l
		}
	}
	return nil
}

// subnetOf returns the subnet that an address is in.
func (b *book) subnetOf(a netip.Addr) (fleet.Subnet, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ledgerOf(a); l != nil {
		return l.subnet, true
	}
	return fleet.Subnet{}, false
}

// subnetNaming returns the first subnet that names a relay.
func (b *book) subnetNaming(relay netip.Addr) (fleet.Subnet, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.ledgers {
		if names(l.subnet, relay) {
			return l.subnet, true
		}
	}
	return fleet.Subnet{}, false
}

// recall completes a client by what is known of its association: the MAC
// address, when it writes from a global address this time, and whether it is a
// firmware's own stack.
func (b *book) recall(n fleet.Subnet, c client) client {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return c
	}
	p := l.byIA[c.key()]
	if p == nil {
		return c
	}
	before := p.held
	if before.key() != c.key() {
		before = clientOf(p.lease)
	}
	if before.key() == c.key() {
		if c.mac == "" {
			c.mac = before.mac
		}
		c.side = c.side || before.side
	}
	return c
}

// offer finds an address for a client and keeps it for a while.
func (b *book) offer(n fleet.Subnet, c client, wanted []netip.Addr, own netip.Addr) (netip.Addr, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return netip.Addr{}, false
	}
	now := b.now()
	p, ok := l.choose(c, wanted, own, now)
	if !ok {
		return netip.Addr{}, false
	}
	if p.storing == 0 {
		l.hold(p, c, now.Add(offerTime), now)
	}
	return p.addr, true
}

// take reserves an address for a client until its lease is stored, and returns
// that lease.
func (b *book) take(n fleet.Subnet, c client, wanted []netip.Addr, own netip.Addr, valid time.Duration) (fleet.Lease6, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return fleet.Lease6{}, false
	}
	now := b.now()
	p, ok := l.choose(c, wanted, own, now)
	if !ok {
		return fleet.Lease6{}, false
	}
	l.hold(p, c, now.Add(offerTime), now)
	p.storing++
	return fleet.Lease6{
		Addr: p.addr, Subnet: n.Name, DUID: c.duid, IAID: c.iaid, MAC: c.mac, Side: c.side,
		State: fleet.LeaseBound, Expires: now.Add(valid),
	}, true
}

// lease returns what a client has now.
func (b *book) lease(n fleet.Subnet, c client) (fleet.Lease6, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return fleet.Lease6{}, false
	}
	p := l.byIA[c.key()]
	if p == nil || !p.isOf(c, b.now()) {
		return fleet.Lease6{}, false
	}
	return p.lease, true
}

// giveUp ends the lease of a client: released by it, or declined because
// somebody else answers at the address. It fails for whoever does not hold it.
func (b *book) giveUp(c client, a netip.Addr, state fleet.LeaseState) (fleet.Lease6, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil || l.byAddr[a] == nil {
		return fleet.Lease6{}, false
	}
	p, now := l.byAddr[a], b.now()
	if p.lease.State != fleet.LeaseBound || clientOf(p.lease).key() != c.key() {
		return fleet.Lease6{}, false
	}
	again := state == fleet.LeaseDeclined && now.Before(p.rests) // it has heard no answer yet
	if !again && !p.freeFor(clientOf(p.lease), now) {
		return fleet.Lease6{}, false
	}
	lease := p.lease
	lease.State, lease.Expires = state, now
	p.storing++
	if state == fleet.LeaseDeclined {
		lease.Expires = now.Add(quarantineTime)
		l.rest(p, lease.Expires)
		return lease, true
	}
	held := clientOf(lease)
	held.known = !p.unknown
	l.hold(p, held, now.Add(offerTime), now)
	return lease, true
}

// stored enters leases that are on disk now; ok is false when they could not
// be stored, and then nothing has changed.
func (b *book) stored(leases []fleet.Lease6, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, lease := range leases {
		l := b.ledgerOf(lease.Addr)
		if l == nil {
			if ok {
				o, had := b.orphans[lease.Addr]
				b.leave(lease, o.unknown || !had)
			}
			continue
		}
		if p := l.place(lease.Addr); p.storing > 0 {
			l.touch(p.addr)
			p.storing--
		}
		if ok {
			l.put(lease)
		}
	}
}

// leaseByAddr returns the lease that holds an address now.
func (b *book) leaseByAddr(a netip.Addr) (fleet.Lease6, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil || l.byAddr[a] == nil {
		return fleet.Lease6{}, false
	}
	lease := l.byAddr[a].lease
	return lease, lease.State == fleet.LeaseBound && b.now().Before(lease.Expires)
}

// gave reports whether somebody has a lease of an address, or had it last.
func (b *book) gave(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(a)
	if l == nil || l.byAddr[a] == nil {
		return false
	}
	state := l.byAddr[a].lease.State
	return state == fleet.LeaseBound || state == fleet.LeaseReleased
}

func leaseTime(n fleet.Subnet, known bool) time.Duration {
	whole := defaultLease
	if n.Lease > 0 {
		whole = time.Duration(n.Lease) * time.Second
	}
	switch {
	case known:
		return whole
	case n.UnknownLease > 0:
		return time.Duration(n.UnknownLease) * time.Second
	default:
		return min(whole, unknownLease)
	}
}
