package dhcp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// A cursor is a place among all addresses: one more than there are is the end.
type cursor uint64

const endOfPages cursor = 1 << 32

// page returns the leases that hold an address now, and the addresses in
// quarantine, by address: at most limit of those of a subnet ("" for all) that
// come after an address. There may be a million, and clients wait for the book:
// it is locked for a block of places at a time, and those of the page are all that
// is written out.
func (b *book) page(subnet string, after netip.Addr, limit int) (list []fleet.Lease) {
	var at cursor
	switch {
	case after.Is4():
		at = cursor(number(after)) + 1
	case after.IsValid():
		return nil // all of IPv4 comes before
	}
	for at < endOfPages && len(list) < limit {
		list, at = b.pageBlock(list, subnet, at, limit)
	}
	return list
}

// pageBlock adds what the first block of places from an address on has, and
// returns where the next one may begin. Networks may be others each time.
func (b *book) pageBlock(list []fleet.Lease, subnet string, at cursor, limit int) ([]fleet.Lease, cursor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerFrom(at)
	if l == nil {
		return list, endOfPages
	}
	next := l.after()
	if subnet != "" && l.net.Name != subnet {
		return list, next
	}
	n, ok := l.byAddr.next(uint32(at >> blockBits)) //nolint:gosec // less than endOfPages
	if !ok {
		return list, next
	}
	now := b.instant()
	for _, p := range l.byAddr.all[n] {
		if p == nil || cursor(p.ip) < at || p.lease.state == noLease || p.lease.state == leaseReleased || now >= p.lease.expires {
			continue
		}
		if list = append(list, l.lease(p)); len(list) >= limit {
			break
		}
	}
	return list, min(next, cursor(n+1)<<blockBits)
}

// ledgerFrom returns the first ledger that has an address of these or later
// ones.
func (b *book) ledgerFrom(at cursor) *ledger {
	i, _ := slices.BinarySearchFunc(b.ledgers, at, func(l *ledger, at cursor) int { return cmp.Compare(l.after(), at+1) })
	if i == len(b.ledgers) {
		return nil
	}
	return b.ledgers[i]
}

// after is what follows the last address.
func (l *ledger) after() cursor { return cursor(number(broadcastOf(l.net.CIDR))) + 1 }
