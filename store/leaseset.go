package store

import (
	"slices"

	"github.com/rackstage/provision/fleet"
)

// A leaseSet is what journals make of leases, in the order in which they were
// stored: the last lease of each address, without those that a client left
// when it got another address on the same subnet. Half a million of them are
// nothing unusual: they are kept without pointers, of which the garbage
// collector has to follow each.
type leaseSet struct {
	all      []kept
	byAddr   map[uint32]int32
	byHolder map[holder]uint32 // address, of those that are bound

	text    []byte // their names
	subnets []string
	number  map[string]uint32 // of a subnet

	now   int64      // when not zero: who holds an address then does not lose it to another
	twice []conflict // leases that were refused for that
}

// A kept is a record whose names are in its set.
type kept struct {
	addr     uint32
	subnet   uint32
	mac      uint64
	expires  int64
	text     uint32 // where its names begin: first the host's, then the client's
	clientID uint16 // bytes
	hostname uint8  // bytes
	state    byte   // 0: there is none any more
}

// A holder is a client on a subnet, where it has one address at most.
type holder struct {
	mac    uint64
	subnet uint32
}

func (k *kept) holder() holder { return holder{k.mac, k.subnet} }

// newLeaseSet returns an empty set, with room for so many leases.
func newLeaseSet(room int) *leaseSet {
	return &leaseSet{
		all: make([]kept, 0, room), byAddr: make(map[uint32]int32, room), byHolder: make(map[holder]uint32, room), number: make(map[string]uint32),
	}
}

func (ls *leaseSet) put(r *record) {
	i, ok := ls.byAddr[r.addr]
	if !ok {
		i = int32(len(ls.all)) //nolint:gosec // addresses are fewer
	} else if old := &ls.all[i]; ls.now != 0 && old.holdsAgainst(r, ls.now) {
		ls.twice = append(ls.twice, conflict{stands: ls.lease(old), refused: r.lease(map[string]string{})})
		return
	} else if ls.byHolder[old.holder()] == old.addr {
		delete(ls.byHolder, old.holder())
	}
	k := ls.keep(r)
	if k.state == codeBound {
		if former, ok := ls.byHolder[k.holder()]; ok {
			ls.all[ls.byAddr[former]] = kept{addr: former, mac: k.mac}
		}
		ls.byHolder[k.holder()] = k.addr
	}
	if ok {
		ls.all[i] = k
		return
	}
	ls.all = append(ls.all, k)
	ls.byAddr[r.addr] = i
}

// keep copies a record into the set.
func (ls *leaseSet) keep(r *record) kept {
	n, ok := ls.number[string(r.subnet)]
	if !ok {
		n = uint32(len(ls.subnets)) //nolint:gosec // no more than leases
		ls.subnets = append(ls.subnets, string(r.subnet))
		ls.number[ls.subnets[n]] = n
	}
	k := kept{
		addr: r.addr, subnet: n, mac: r.mac, expires: r.expires, state: r.state,
		text: uint32(len(ls.text)), hostname: uint8(len(r.hostname)), clientID: uint16(len(r.clientID)), //nolint:gosec // see checkLease
	}
	ls.text = append(append(ls.text, r.hostname...), r.clientID...)
	return k
}

// record is what was put.
func (ls *leaseSet) record(k *kept) record {
	if k.state == 0 {
		return record{addr: k.addr, mac: k.mac}
	}
	text := ls.text[k.text:]
	host := int(k.hostname)
	return record{
		addr: k.addr, state: k.state, mac: k.mac, expires: k.expires,
		subnet: []byte(ls.subnets[k.subnet]), hostname: text[:host], clientID: text[host : host+int(k.clientID)],
	}
}

func (ls *leaseSet) lease(k *kept) fleet.Lease {
	r := ls.record(k)
	return r.lease(map[string]string{})
}

func (k *kept) holdsAgainst(other *record, now int64) bool {
	r := record{state: k.state, mac: k.mac, expires: k.expires}
	return r.holdsAgainst(other, now)
}

// sort brings the leases into the order of the table, by address: its pages are
// written one after the other. Those that are no more come first: they would be
// in the others' way. Nothing can be put then.
func (ls *leaseSet) sort() []kept {
	order := make([]uint64, len(ls.all)) // whether, address, and index
	for i := range ls.all {
		k := &ls.all[i]
		order[i] = uint64(k.addr)<<31 | uint64(i) //nolint:gosec // fewer than 2^31
		if k.state != 0 {
			order[i] |= 1 << 63
		}
	}
	slices.Sort(order)
	sorted := make([]kept, len(order))
	for i, o := range order {
		sorted[i] = ls.all[o&(1<<31-1)]
	}
	ls.byAddr, ls.byHolder, ls.all = nil, nil, sorted
	return sorted
}
