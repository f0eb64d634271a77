package dhcp6

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/rackstage/provision/dhcp/takeover"
	"github.com/rackstage/provision/fleet"
)

// Import takes over leases that another server gave, on a subnet or ("") on
// whichever their addresses are in. What is counted as taken is on disk. With
// dryRun it only says what would happen.
func (s *Server) Import(ctx context.Context, leases []fleet.Lease6, subnet string, dryRun bool) (takeover.Report, error) {
	now := s.o.Now()
	return takeover.Options[fleet.Lease6]{
		Ready: s.ready,
		Addr:  func(l *fleet.Lease6) netip.Addr { return l.Addr },
		Who: func(l *fleet.Lease6) (key, name string) {
			return fmt.Sprint(l.Subnet, " ", l.DUID, " ", l.IAID), l.Client()
		},
		Check: func(l *fleet.Lease6) string { return s.mayImport(l, subnet, now) },
		Claim: func(l *fleet.Lease6, hold bool) string {
			return s.book.claim(*l, s.isKnown(l.MAC), hold)
		},
		Keep: s.keepNow,
	}.Import(ctx, leases, dryRun)
}

// mayImport completes a lease with its subnet and what its DUID says, or says
// why it can be none of ours.
func (s *Server) mayImport(l *fleet.Lease6, subnet string, now time.Time) (why string) {
	id, err := hex.DecodeString(l.DUID)
	n, served := s.book.subnetOf(l.Addr)
	switch {
	case !l.Addr.Is6() || l.Addr.Is4In6():
		return "not an IPv6 address"
	case err != nil || len(id) < minDUID || len(id) > maxDUID:
		return "without a DUID"
	case !l.Expires.After(now):
		return "expired"
	case !served:
		return "outside of every declared subnet"
	case subnet != "" && n.Name != subnet:
		return "on subnet " + n.Name
	}
	l.Subnet, l.State, l.DUID, l.MAC = n.Name, fleet.LeaseBound, duid(id).hex(), cmp.Or(l.MAC, duid(id).mac())
	return ""
}

// claim holds the place of a lease that another server gave, unless somebody
// has it here.
func (b *book) claim(lease fleet.Lease6, known, hold bool) (why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(lease.Addr)
	if l == nil {
		return "outside of every declared subnet"
	}
	c, now := clientOf(lease), b.now()
	c.known = known
	if mac, reserved := l.reserved[lease.Addr]; reserved && mac != c.mac {
		return "reserved for " + string(mac)
	}
	if l.never[lease.Addr] {
		return "the address of the router, or of this server"
	}
	if p := l.byAddr[lease.Addr]; p != nil {
		if p.isOf(c, now) && !p.lease.Expires.Before(lease.Expires) {
			return takeover.Known
		}
		if !p.freeFor(c, now) {
			return "held by " + p.heldBy(now)
		}
	}
	if p := l.byIA[c.key()]; p != nil && p.addr != lease.Addr && p.isOf(c, now) {
		return fmt.Sprintf("%s has %s", lease.Client(), p.addr)
	}
	if hold {
		p := l.place(lease.Addr)
		l.hold(p, c, now.Add(offerTime), now)
		p.storing++
	}
	return ""
}

// isOf reports whether a client has the address.
func (p *place) isOf(c client, now time.Time) bool {
	return p.lease.State == fleet.LeaseBound && now.Before(p.lease.Expires) && clientOf(p.lease).key() == c.key()
}

// heldBy names who has the address.
func (p *place) heldBy(now time.Time) string {
	h, _ := p.holder(now)
	if h.duid == "" {
		return "somebody who did not get it from here" // declined
	}
	return fleet.Lease6{MAC: h.mac, DUID: h.duid}.Client()
}
