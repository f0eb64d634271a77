package fleet

import "slices"

// Without returns ranges of addresses in order, less what lies in others.
// What is no range is left out.
func Without(ranges, others []AddrRange) []AddrRange {
	byFirst := func(a, b AddrRange) int { return a.First.Compare(b.First) }
	rest := slices.SortedFunc(slices.Values(ranges), byFirst)
	others = slices.SortedFunc(slices.Values(others), byFirst)
	var out []AddrRange
	for _, r := range rest {
		if !r.First.IsValid() || r.First.BitLen() != r.Last.BitLen() || r.Last.Less(r.First) {
			continue
		}
		from := r.First
		for _, o := range others {
			if o.Last.Less(from) || r.Last.Less(o.First) {
				continue
			}
			if from.Less(o.First) {
				out = append(out, AddrRange{First: from, Last: o.First.Prev()})
			}
			if from = o.Last.Next(); !from.IsValid() {
				break
			}
		}
		if from.IsValid() && !r.Last.Less(from) {
			out = append(out, AddrRange{First: from, Last: r.Last})
		}
	}
	return out
}
