package dhcp6

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A client is who asks for one address.
type client struct {
	duid  string // hex, as it was sent
	iaid  uint32
	mac   fleet.MAC // "" when nothing told it
	side  bool      // a firmware's own IP stack
	known bool      // approved at some time
}

// machine names what gets one address: a card, or what we take for one.
func (c client) machine() string {
	name := string(c.mac)
	if name == "" {
		name = canonicalHex(c.duid)
	}
	if c.side {
		name += " side"
	}
	return name
}

func (c client) key() iaKey { return iaKey{c.duid, c.iaid} }

type iaKey struct {
	duid string
	iaid uint32
}

func clientOf(l fleet.Lease6) client {
	return client{duid: l.DUID, iaid: l.IAID, mac: l.MAC, side: l.Side}
}

// A place is an address that somebody has, had, or is about to get.
type place struct {
	addr    netip.Addr
	lease   fleet.Lease6 // as it is on disk; State "" when there is none
	held    client       // who may take it, until then; also while the lease is being stored
	until   time.Time
	rests   time.Time // declined: had by nobody until then, whether that is on disk or not
	storing int       // leases of it on their way to the disk
	unknown bool      // given to a machine that nobody has approved
}

// holder returns who has the address now. A declined or released address may
// be had by nobody that could be named: busy is true then for the former.
func (p *place) holder(now time.Time) (c client, busy bool) {
	if now.Before(p.rests) {
		return client{}, true
	}
	if p.held.duid != "" && (p.storing > 0 || now.Before(p.until)) {
		return p.held, true
	}
	if now.Before(p.lease.Expires) {
		switch p.lease.State {
		case fleet.LeaseBound:
			return clientOf(p.lease), true
		case fleet.LeaseDeclined:
			return client{}, true
		case fleet.LeaseReleased: // ended early
		}
	}
	return client{}, false
}

// freeFor reports whether a client may take the address: nobody has it, or the
// same machine has it and spoke with another voice. By the same voice, two
// associations of a machine that we know by its MAC are one card's all the
// same; of one that hides it they may be two cards'.
func (p *place) freeFor(c client, now time.Time) bool {
	h, busy := p.holder(now)
	if !busy {
		return true
	}
	if h.mac == "" && h.key() == c.key() {
		return true // it hid its MAC address, or another server did not write it down
	}
	if h.machine() != c.machine() {
		return false
	}
	return c.mac != "" || h.duid != c.duid || h.iaid == c.iaid
}

// A ledger is the addresses of one subnet.
type ledger struct {
	subnet   fleet.Subnet
	never    map[netip.Addr]bool      // given to nobody
	reserved map[netip.Addr]fleet.MAC // given to this card only
	byMAC    map[fleet.MAC]netip.Addr // the reservations
	pool     pool

	byAddr    map[netip.Addr]*place
	order     order             // of those addresses, and maybe of some that are forgotten
	byIA      map[iaKey]*place  // lease on disk or offer, by whom it is for
	byMachine map[string]*place // the address that the machine had last

	use     stock
	counted time.Time
	dirty   map[netip.Addr]struct{} // places that have changed since they were copied; nil: nobody copies
}

// A stock is how many of the addresses that are given to anybody are left.
type stock struct {
	size     uint64 // addresses that can be given, or as many as we keep track of
	busy     uint64
	declined uint64 // of the busy ones, in quarantine
	unknown  uint64 // of the busy ones, had by machines that nobody has approved

	hidden map[string]uint64 // of the busy ones, by the DUID of clients without a MAC address
}

const (
	maxPlaces    = 1 << 18 // addresses that we keep track of, per subnet
	maxProbes    = 1024    // addresses that are looked at for a new client
	countEvery   = 5 * time.Second
	rememberTime = time.Hour // an address is remembered for who had it last
	defaultShare = 50        // percent of the addresses for machines that nobody has approved
	maxHidden    = 8         // addresses for one DUID that does not tell which cards it has
)

func newLedger(n fleet.Subnet, own map[netip.Addr]bool) *ledger {
	l := &ledger{
		subnet: n, never: make(map[netip.Addr]bool), reserved: make(map[netip.Addr]fleet.MAC), byMAC: make(map[fleet.MAC]netip.Addr),
		pool: poolOf(fleet.Without(n.Ranges, n.Exclude)), byAddr: make(map[netip.Addr]*place), byIA: make(map[iaKey]*place), byMachine: make(map[string]*place),
	}
	for a := range own {
		l.never[a] = true
	}
	// The first address is that of all routers (RFC 4291 §2.6.1).
	for _, a := range append([]netip.Addr{n.CIDR.Masked().Addr(), n.Router, n.Server}, n.DNS...) {
		l.never[a] = true
	}
	for _, r := range n.Reservations {
		if r.MAC != "" && r.Addr.IsValid() {
			l.reserved[r.Addr], l.byMAC[r.MAC] = r.MAC, r.Addr
		}
	}
	l.use.size = min(l.pool.size-l.kept(), maxPlaces)
	return l
}

// kept counts the addresses of the ranges that not everybody can have.
func (l *ledger) kept() (n uint64) {
	for a := range l.never {
		if l.pool.contains(a) {
			n++
		}
	}
	for a := range l.reserved {
		if l.pool.contains(a) && !l.never[a] {
			n++
		}
	}
	return n
}

// isShared reports whether an address is one of those that are given to
// anybody, of which there are so many.
func (l *ledger) isShared(a netip.Addr) bool {
	_, reserved := l.reserved[a]
	return !reserved && !l.never[a] && l.pool.contains(a)
}

// mayHave reports whether a client may have this address at all. own is the
// address that its node is declared to have; where a subnet serves known nodes
// only, that may lie outside of the ranges.
func (l *ledger) mayHave(a netip.Addr, c client, own netip.Addr) bool {
	if !l.subnet.CIDR.Contains(a) || l.never[a] {
		return false
	}
	if mac, ok := l.reserved[a]; ok {
		return mac == c.mac && !c.side
	}
	if a == own && !c.side && l.subnet.Mode == fleet.Reserved {
		return true
	}
	return l.pool.contains(a)
}

// choose finds an address for a client: the one reserved for it, the one it
// was offered or has, the one that its machine has or had, one that it asks
// for, its node's by declaration, and else one that follows from who it is, so
// that it gets the same one again when we have forgotten it.
func (l *ledger) choose(c client, wanted []netip.Addr, own netip.Addr, now time.Time) (*place, bool) {
	var liked []netip.Addr
	if !c.side {
		liked = append(liked, l.byMAC[c.mac])
	}
	for _, p := range []*place{l.byIA[c.key()], l.byMachine[c.machine()]} {
		if p != nil {
			liked = append(liked, p.addr)
		}
	}
	for _, a := range append(append(liked, own), wanted...) {
		if l.isFor(a, c, own, now) {
			return l.place(a), true
		}
	}
	if !l.room(c, now) {
		return nil, false
	}
	return l.probe(c, own, now)
}

// isFor reports whether a client may have an address now: it has it, or nobody
// does. That it had it once is no claim: an address that is given to anybody,
// and that it does not have, takes room as any other one does.
func (l *ledger) isFor(a netip.Addr, c client, own netip.Addr, now time.Time) bool {
	if !a.IsValid() || !l.mayHave(a, c, own) {
		return false
	}
	if p := l.byAddr[a]; p != nil {
		if _, busy := p.holder(now); busy {
			return p.freeFor(c, now)
		}
	}
	return !l.isShared(a) || l.room(c, now)
}

// probe looks for a free address, from the one that follows from the client's
// name on. A pool of which a thousand addresses in a row are taken counts as
// full.
func (l *ledger) probe(c client, own netip.Addr, now time.Time) (*place, bool) {
	if l.pool.size == 0 {
		return nil, false
	}
	name := c.machine()
	if c.mac == "" {
		name += string(c.key().appendTo(nil))
	}
	for i := range min(l.pool.size, maxProbes) {
		a := l.pool.at(hashOf(name) + i)
		if p := l.byAddr[a]; l.mayHave(a, c, own) && (p == nil || p.freeFor(c, now)) {
			return l.place(a), true
		}
	}
	return nil, false
}

// room reports whether one more client of this kind may get an address.
func (l *ledger) room(c client, now time.Time) bool {
	return l.roomNow(c, countEvery, now) || l.roomNow(c, time.Second, now)
}

func (l *ledger) roomNow(c client, age time.Duration, now time.Time) bool {
	l.count(age, now)
	if c.mac == "" && l.use.hidden[c.duid] >= maxHidden {
		return false
	}
	return l.use.busy < l.use.size && (c.known || l.use.unknown < l.share())
}

// share is how many addresses machines that nobody has approved may have.
func (l *ledger) share() uint64 {
	percent := uint64(l.subnet.UnknownShare) //nolint:gosec // 0 to 100
	if percent == 0 {
		percent = defaultShare
	}
	return max(1, l.use.size*percent/100)
}

// count takes stock, unless that was done a short time ago: between, what is
// given is added. It forgets who had an address long ago.
func (l *ledger) count(age time.Duration, now time.Time) {
	if now.Sub(l.counted) < age {
		return
	}
	l.counted, l.use = now, stock{size: l.use.size, hidden: make(map[string]uint64)}
	for a, p := range l.byAddr {
		c, busy := p.holder(now)
		switch {
		case busy && l.isShared(a):
			l.use.add(c, p.unknown)
		case busy:
		case now.Sub(p.lease.Expires) > rememberTime, len(l.byAddr) > maxPlaces:
			l.unlink(p)
			delete(l.byAddr, a)
			l.order.remove(a)
		}
	}
}

// add counts one more address that somebody has.
func (u *stock) add(c client, unknown bool) {
	u.busy++
	if c.duid == "" {
		u.declined++
	}
	if unknown {
		u.unknown++
	}
	if c.mac == "" && c.duid != "" && u.hidden != nil {
		u.hidden[c.duid]++
	}
}

func (l *ledger) place(a netip.Addr) *place {
	if p := l.byAddr[a]; p != nil {
		return p
	}
	l.order.add(a)
	p := &place{addr: a}
	l.byAddr[a] = p
	l.touch(a)
	return p
}

// hold keeps a place for a client for a while.
func (l *ledger) hold(p *place, c client, until, now time.Time) {
	if _, busy := p.holder(now); !busy && l.isShared(p.addr) {
		l.use.add(c, !c.known)
	}
	l.touch(p.addr)
	if old := l.byIA[c.key()]; old != nil && old != p {
		l.touch(old.addr)
	}
	if old := l.byIA[c.key()]; old != nil && old != p && old.held.key() == c.key() && old.storing == 0 {
		old.held = client{} // it was offered another one before
	}
	if p.held.key() != c.key() && l.byIA[p.held.key()] == p {
		delete(l.byIA, p.held.key()) // an offer that nobody took
	}
	p.held, p.until, p.unknown = c, until, !c.known
	if old := l.byIA[c.key()]; old == nil || old.lease.State != fleet.LeaseBound || !now.Before(old.lease.Expires) {
		l.byIA[c.key()] = p
	}
}

// put enters a lease that is on disk now. What the address was leased to, and
// what the client had before, end with it, on disk as in here.
func (l *ledger) put(lease fleet.Lease6) *place {
	p, c := l.place(lease.Addr), clientOf(lease)
	l.unlink(p)
	for _, old := range []*place{l.byIA[c.key()], l.byMachine[c.machine()]} {
		if old != nil {
			l.touch(old.addr)
		}
	}
	if old := l.byIA[c.key()]; old != nil && old != p && lease.State == fleet.LeaseBound && old.lease.DUID == c.duid && old.lease.IAID == c.iaid {
		old.lease = fleet.Lease6{}
	}
	p.lease = lease
	if lease.State == fleet.LeaseDeclined {
		p.held = client{}
		return p
	}
	l.byIA[c.key()], l.byMachine[c.machine()] = p, p
	if p.storing == 0 && p.held.key() == c.key() {
		p.held = client{}
	}
	return p
}

// rest keeps a place from everybody: its client found somebody else there.
func (l *ledger) rest(p *place, until time.Time) {
	l.touch(p.addr)
	if l.byIA[p.held.key()] == p && p.held.key() != clientOf(p.lease).key() {
		delete(l.byIA, p.held.key())
	}
	p.held, p.rests = client{}, until
}

// unlink takes a place out of the indexes.
func (l *ledger) unlink(p *place) {
	l.touch(p.addr)
	for _, c := range []client{clientOf(p.lease), p.held} {
		if l.byIA[c.key()] == p {
			delete(l.byIA, c.key())
		}
		if l.byMachine[c.machine()] == p {
			delete(l.byMachine, c.machine())
		}
	}
}
