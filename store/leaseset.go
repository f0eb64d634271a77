package store

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A leaseSet is what journals make of leases, in the order in which they were
// stored: the last lease of each address, without those that a client left
// when it got another address on the same subnet.
type leaseSet struct {
	byAddr   map[netip.Addr]fleet.Lease // State "": there is none any more
	byHolder map[holder]netip.Addr      // of those that are bound

	now   time.Time  // when not zero: who holds an address then does not lose it to another
	twice []conflict // leases that were refused for that
}

// A holder is a client on a subnet, where it has one address at most.
type holder struct {
	subnet string
	mac    fleet.MAC
}

func holderOf(l *fleet.Lease) holder { return holder{l.Subnet, l.MAC} }

func newLeaseSet() *leaseSet {
	return &leaseSet{byAddr: make(map[netip.Addr]fleet.Lease), byHolder: make(map[holder]netip.Addr)}
}

func (ls *leaseSet) put(l fleet.Lease) {
	old, ok := ls.byAddr[l.Addr]
	if !ls.now.IsZero() && (standing{old}).holdsAgainst(&l, ls.now) {
		ls.twice = append(ls.twice, conflict{stands: old, refused: l})
		return
	}
	if ok && ls.byHolder[holderOf(&old)] == l.Addr {
		delete(ls.byHolder, holderOf(&old))
	}
	if l.State == fleet.LeaseBound {
		if former, ok := ls.byHolder[holderOf(&l)]; ok {
			ls.byAddr[former] = fleet.Lease{Addr: former, MAC: l.MAC}
		}
		ls.byHolder[holderOf(&l)] = l.Addr
	}
	ls.byAddr[l.Addr] = l
}

// sorted returns the leases in order of address, which is the order of the
// table: its pages are written one after the other.
func (ls *leaseSet) sorted() []fleet.Lease {
	return slices.SortedFunc(maps.Values(ls.byAddr), func(a, b fleet.Lease) int {
		// Those that are no more come first: they would be in the others' way.
		if gone := (a.State == "") != (b.State == ""); gone {
			return cmp.Compare(len(a.State), len(b.State))
		}
		return a.Addr.Compare(b.Addr)
	})
}
