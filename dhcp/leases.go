package dhcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/fleet"
)

// importBatch is how many leases are stored in one transaction.
const importBatch = 1024

// An Imported says what became of leases that another server gave.
type Imported struct {
	Taken   int // are ours now
	Known   int // were ours already
	Refused []Refused
}

// A Refused is a lease that was not taken over.
type Refused struct {
	Addr   netip.Addr
	Reason string
}

// Leases returns the leases that hold an address now, and the addresses in
// quarantine, by address: at most limit of those of a subnet ("" for all) that
// come after an address (invalid for the first ones).
func (s *Server) Leases(subnet string, after netip.Addr, limit int) []fleet.Lease {
	now := s.o.Now()
	var list []fleet.Lease
	for _, l := range s.book.all() {
		if l.State == fleet.LeaseReleased || !now.Before(l.Expires) || subnet != "" && l.Subnet != subnet {
			continue
		}
		if !after.IsValid() || after.Less(l.Addr) {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b fleet.Lease) int { return a.Addr.Compare(b.Addr) })
	return list[:min(len(list), limit)]
}

// Release ends the lease of an address, as an operator wants it. The machine
// that has the address is not asked: it loses it when it renews.
func (s *Server) Release(ctx context.Context, addr netip.Addr) (fleet.Lease, error) {
	lease, held := s.book.leaseByAddr(addr)
	if held {
		lease, held = s.book.giveUp(hwOf(lease.MAC), addr, fleet.LeaseReleased)
	}
	if !held {
		return lease, &fleet.Error{
			Kind: fleet.NotFound, Code: "E-LEASE-UNKNOWN", Op: "release", Err: fmt.Errorf("nobody has a lease of %s", addr),
			Hint: "see: provision leases list",
		}
	}
	return lease, s.keep(ctx, []fleet.Lease{lease})
}

// keep stores leases that the book holds places for. Whatever happens, the
// book knows afterwards.
func (s *Server) keep(ctx context.Context, leases []fleet.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commit.SaveTimeout)
	defer cancel()
	err := s.o.Leases.SaveLeases(ctx, leases)
	s.book.stored(leases, err == nil)
	if err != nil {
		return &fleet.Error{Kind: fleet.Internal, Code: fleet.CodeLeasesUnsaved, Op: "store leases", Err: err, Hint: cmp.Or(fleet.HintOf(err), "see why in the error; a full disk needs room in the state folder")}
	}
	return nil
}

// Import takes over leases that another server gave, on a subnet or ("") on
// whichever their addresses are in. What is counted as taken is on disk. With
// dryRun it only says what would happen.
func (s *Server) Import(ctx context.Context, leases []fleet.Lease, subnet string, dryRun bool) (Imported, error) {
	var report Imported
	select {
	case <-s.ready:
	default:
		return report, &fleet.Error{Kind: fleet.Conflict, Op: "import leases", Err: errors.New("the leases on disk are not loaded yet"), Hint: "try again"}
	}
	now, seen := s.o.Now(), map[string]netip.Addr{} // a client has one lease on one subnet
	for batch := range slices.Chunk(leases, importBatch) {
		var taken []fleet.Lease
		for _, l := range batch {
			l.State = fleet.LeaseBound
			var why string
			if l.Subnet, why = s.mayImport(l, subnet, now); why == "" {
				who := l.Subnet + " " + string(l.MAC)
				if other, twice := seen[who]; twice {
					why = fmt.Sprintf("%s has %s in the same file", l.MAC, other)
				} else if why = s.claimImport(l, dryRun); why == "" {
					seen[who] = l.Addr
				}
			}
			switch why {
			case "":
				taken = append(taken, l)
			case known:
				report.Known++
			default:
				report.Refused = append(report.Refused, Refused{Addr: l.Addr, Reason: why})
			}
		}
		if dryRun || len(taken) == 0 {
			report.Taken += len(taken)
			continue
		}
		if err := s.keep(ctx, taken); err != nil {
			return report, err
		}
		report.Taken += len(taken)
	}
	return report, nil
}

const known = "known"

// mayImport says which subnet a lease is of, or why it can be none of ours.
func (s *Server) mayImport(l fleet.Lease, subnet string, now time.Time) (name, why string) {
	n := s.nets.Load().of(l.Addr)
	switch {
	case !l.Addr.Is4():
		return "", "not an IPv4 address"
	case l.MAC.Hardware() == nil:
		return "", "without the address of an Ethernet card"
	case !l.Expires.After(now):
		return "", "expired"
	case n == nil:
		return "", "outside of every declared subnet"
	case subnet != "" && n.Name != subnet:
		return "", "on subnet " + n.Name
	case l.Addr == n.CIDR.Addr() || l.Addr == broadcastOf(n.CIDR):
		return "", "not an address of a machine"
	case l.Addr == n.Router || l.Addr == n.Server || s.ifaces.own(l.Addr):
		return "", "the address of the router, or of this server"
	}
	return n.Name, ""
}

// claimImport holds the place of a lease, unless somebody has it.
func (s *Server) claimImport(l fleet.Lease, dryRun bool) (why string) {
	if old, held := s.book.leaseByAddr(l.Addr); held {
		if old.MAC == l.MAC && !old.Expires.Before(l.Expires) {
			return known
		}
		if old.MAC != l.MAC {
			return "held by " + string(old.MAC)
		}
	}
	for _, old := range s.book.leasesByMAC(l.MAC) {
		if old.Subnet == l.Subnet && old.Addr != l.Addr {
			return fmt.Sprintf("%s has %s", l.MAC, old.Addr)
		}
	}
	if dryRun {
		return ""
	}
	n, _ := s.o.Nodes.NodeByMAC(l.MAC)
	if _, ok := s.book.take(&client{mac: hwOf(l.MAC), known: approved(n)}, l); !ok {
		return "about to be given to another machine"
	}
	return ""
}
