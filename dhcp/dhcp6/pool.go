package dhcp6

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// A pool is the ranges of a subnet, without what is excluded, as one row of
// addresses.
type pool struct {
	ranges []fleet.AddrRange
	sizes  []uint64
	size   uint64
}

// maxRange is as much of a range as we count: nobody has so many machines.
const maxRange = 1 << 48

// contains reports whether an address is in one of the ranges.
func (p pool) contains(a netip.Addr) bool {
	return slices.ContainsFunc(p.ranges, func(r fleet.AddrRange) bool { return r.Contains(a) })
}

func poolOf(ranges []fleet.AddrRange) pool {
	var p pool
	for _, r := range ranges {
		n := sizeOf(r)
		p.ranges, p.sizes = append(p.ranges, r), append(p.sizes, n)
		p.size += n
	}
	return p
}

func sizeOf(r fleet.AddrRange) uint64 {
	if !r.First.Is6() || !r.Last.Is6() || r.Last.Less(r.First) {
		return 0
	}
	high, low := halves(r.First)
	lastHigh, lastLow := halves(r.Last)
	if lastHigh-high > 1 || (lastHigh > high && lastLow >= low) || lastLow-low >= maxRange {
		return maxRange
	}
	return lastLow - low + 1
}

// at returns the i-th address; after the last comes the first again.
func (p pool) at(i uint64) netip.Addr {
	i %= p.size
	for k, r := range p.ranges {
		if i < p.sizes[k] {
			return add(r.First, i)
		}
		i -= p.sizes[k]
	}
	return netip.Addr{}
}

func halves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func add(a netip.Addr, n uint64) netip.Addr {
	high, low := halves(a)
	if low+n < low {
		high++
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low+n)
	return netip.AddrFrom16(b)
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64() >> 16    // so that nothing overflows
}

func (k iaKey) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, k.duid...), k.iaid)
}

// canonicalHex is [duid.canonical] for a DUID in hex.
func canonicalHex(s string) string {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) < minDUID {
		return s
	}
	return duid(raw).canonical()
}
