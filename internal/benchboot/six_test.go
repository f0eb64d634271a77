package main

import (
	"net/netip"
	"time"
)

// six has a client of IPv6 ask.
func (d *drill) six(a sixArgs) (l sixLease) {
	d.Helper()
	if err := d.l.load(d.Context(), 30*time.Second, "six", a, &l); err != nil {
		d.Fatal(err)
	}
	return l
}

// A client of IPv6 that keeps its lease, one that wants it, and the first of those
// that come when the disk is full.
const holder6, stranger6, firstLate6 = 7, 8, 1000

// lease6 gets the holder a lease.
func (d *drill) lease6() sixLease {
	d.Helper()
	l := d.six(sixArgs{Client: holder6, Do: sixRequest})
	if !l.Addr.IsValid() || l.Seconds == 0 {
		d.Fatalf("a client of IPv6 was given %+v", l)
	}
	return l
}

// keeps6 sees that a lease is its holder's and nobody else's: a server that has
// forgotten it offers it to whoever wants it.
func (d *drill) keeps6(l sixLease) {
	d.Helper()
	free := netip.MustParseAddr("fd77::abcd")
	if got := d.six(sixArgs{Client: stranger6, Do: sixSolicit, Addr: free}); got.Addr != free {
		d.Fatalf("a stranger asked for a free address and was offered %v: this test shows nothing", got.Addr)
	}
	if got := d.six(sixArgs{Client: stranger6, Do: sixSolicit, Addr: l.Addr}); got.Addr == l.Addr || !got.Addr.IsValid() {
		d.Errorf("a stranger that wants %s, which is leased, is offered %v", l.Addr, got.Addr)
	}
	if got := d.six(sixArgs{Client: holder6, Do: sixRenew, Addr: l.Addr, Server: l.Server}); got.Addr != l.Addr || got.Seconds == 0 {
		d.Errorf("the holder of %s renews, and is given %v for %d s", l.Addr, got.Addr, got.Seconds)
	}
}
