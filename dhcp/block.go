package dhcp

import (
	"iter"
	"slices"
)

// blocks are the places of a network by address. Addresses in a row share a
// block, since most of them are given in a row: a block is found where a map of
// a million addresses would have to be searched.
type blocks struct {
	all   map[uint32]*block // by address without its last eight bits
	order []uint32          // those that there are: leases are listed in it
	count int
	fresh []place // allocated and not used yet
}

type block [1 << blockBits]*place

const (
	blockBits  = 8
	placesEach = 128 // are allocated at once
)

func newBlocks() blocks { return blocks{all: make(map[uint32]*block)} }

// at returns the place of an address; nil when there is none yet.
func (b *blocks) at(ip uint32) *place {
	if bl := b.all[ip>>blockBits]; bl != nil {
		return bl[ip%(1<<blockBits)]
	}
	return nil
}

// add makes the place of an address that has none.
func (b *blocks) add(p place) *place {
	bl := b.all[p.ip>>blockBits]
	if bl == nil {
		bl = new(block)
		b.all[p.ip>>blockBits] = bl
		i, _ := slices.BinarySearch(b.order, p.ip>>blockBits)
		b.order = slices.Insert(b.order, i, p.ip>>blockBits)
	}
	if len(b.fresh) == 0 {
		b.fresh = make([]place, placesEach)
	}
	q := &b.fresh[0]
	b.fresh = b.fresh[1:]
	*q = p
	bl[p.ip%(1<<blockBits)] = q
	b.count++
	return q
}

// next returns the first block that there is from a number on.
func (b *blocks) next(n uint32) (at uint32, ok bool) {
	i, _ := slices.BinarySearch(b.order, n)
	if i == len(b.order) {
		return 0, false
	}
	return b.order[i], true
}

// places are all of them, in no order.
func (b *blocks) places() iter.Seq[*place] {
	return func(yield func(*place) bool) {
		for _, bl := range b.all {
			for _, p := range bl {
				if p != nil && !yield(p) {
					return
				}
			}
		}
	}
}
