package dhcp6

import (
	"net/netip"
	"slices"
)

// An order is addresses, sorted, in rows of a bounded length: however many there
// are, one more moves few of the others. Clients' addresses are strewn over their
// pool, and people want them listed in order.
type order struct{ rows [][]netip.Addr }

const longestRow = 512

// row returns which row an address is in, or would be.
func (o *order) row(a netip.Addr) int {
	i, found := slices.BinarySearchFunc(o.rows, a, func(row []netip.Addr, a netip.Addr) int { return row[0].Compare(a) })
	if !found {
		i--
	}
	return max(i, 0)
}

// add puts an address in, unless it is there.
func (o *order) add(a netip.Addr) {
	if len(o.rows) == 0 {
		o.rows = append(o.rows, []netip.Addr{a})
		return
	}
	i := o.row(a)
	at, found := slices.BinarySearchFunc(o.rows[i], a, netip.Addr.Compare)
	if found {
		return
	}
	row := slices.Insert(o.rows[i], at, a)
	if len(row) > longestRow {
		half := len(row) / 2
		o.rows = slices.Insert(o.rows, i+1, slices.Clone(row[half:]))
		row = row[:half]
	}
	o.rows[i] = row
}

// remove takes an address out, if it is there.
func (o *order) remove(a netip.Addr) {
	if len(o.rows) == 0 {
		return
	}
	i := o.row(a)
	at, found := slices.BinarySearchFunc(o.rows[i], a, netip.Addr.Compare)
	if !found {
		return
	}
	if o.rows[i] = slices.Delete(o.rows[i], at, at+1); len(o.rows[i]) == 0 {
		o.rows = slices.Delete(o.rows, i, i+1)
	}
}

// from returns some addresses in a row, from one on; none when there are no more.
func (o *order) from(a netip.Addr) []netip.Addr {
	for i := o.row(a); i < len(o.rows); i++ {
		if at, _ := slices.BinarySearchFunc(o.rows[i], a, netip.Addr.Compare); at < len(o.rows[i]) {
			return o.rows[i][at:]
		}
	}
	return nil
}
