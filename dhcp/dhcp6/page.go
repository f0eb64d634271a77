package dhcp6

import (
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// page returns the leases that hold an address now, by address: at most limit of
// those of a subnet ("" for all) that come after an address. Clients wait for the
// book: it is locked for a row of addresses at a time.
func (b *book) page(subnet string, after netip.Addr, limit int) (list []fleet.Lease6) {
	at := netip.IPv6Unspecified()
	if after.Is6() {
		at = after.Next()
	}
	for at.IsValid() && len(list) < limit {
		list, at = b.pageRow(list, subnet, at, limit)
	}
	return list
}

// pageRow adds what the next few addresses have, and returns where others may
// follow; an invalid address at the end.
func (b *book) pageRow(list []fleet.Lease6, subnet string, at netip.Addr, limit int) ([]fleet.Lease6, netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var l *ledger
	var row []netip.Addr
	for _, other := range b.ledgers {
		if subnet != "" && other.subnet.Name != subnet {
			continue
		}
		if next := other.order.from(at); len(next) > 0 && (l == nil || next[0].Less(row[0])) {
			l, row = other, next
		}
	}
	if l == nil {
		return list, netip.Addr{}
	}
	now := b.now()
	for _, a := range row {
		p := l.byAddr[a]
		if p == nil || p.lease.State != fleet.LeaseBound && p.lease.State != fleet.LeaseDeclined || !now.Before(p.lease.Expires) {
			continue
		}
		if list = append(list, p.lease); len(list) >= limit {
			break
		}
	}
	return list, row[len(row)-1].Next()
}
