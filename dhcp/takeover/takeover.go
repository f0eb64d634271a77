// Package takeover makes leases ours that another DHCP server gave, so that
// machines keep their addresses when this server takes that one's place.
package takeover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// batchSize is how many leases are stored in one transaction.
const batchSize = 1024

// A Report says what became of leases that another server gave.
type Report struct {
	Taken   int // are ours now
	Known   int // were ours already
	Refused []Refused
}

// Add adds what became of further leases.
func (r *Report) Add(other Report) {
	r.Taken, r.Known, r.Refused = r.Taken+other.Taken, r.Known+other.Known, append(r.Refused, other.Refused...)
}

// A Refused is a lease that was not taken over.
type Refused struct {
	Addr   netip.Addr
	Reason string
}

// Known is the reason not to take a lease over that is ours already.
const Known = "known"

// Options say what a lease L is to a server.
type Options[L any] struct {
	Ready <-chan struct{}                    // closed when the server knows its own leases
	Addr  func(l *L) netip.Addr              // what a lease is of
	Who   func(l *L) (key, name string)      // whose it is: nobody has two on one subnet
	Check func(l *L) (why string)            // completes a lease, or says why it can be none of ours
	Claim func(l *L, hold bool) (why string) // holds its place, unless somebody has it, or it is Known
	Keep  func(context.Context, []L) error   // puts leases on the disk whose places are held
}

// Import takes leases over. What is counted as taken is on disk. With dryRun it
// only says what would happen.
func (o Options[L]) Import(ctx context.Context, leases []L, dryRun bool) (Report, error) {
	var report Report
	select {
	case <-o.Ready:
	default:
		return report, &fleet.Error{Kind: fleet.Conflict, Op: "import leases", Err: errors.New("the leases on disk are not loaded yet"), Hint: "try again"}
	}
	seen := make(map[string]netip.Addr)
	for batch := range slices.Chunk(leases, batchSize) {
		var taken []L
		for _, l := range batch {
			switch why := o.claim(&l, seen, !dryRun); why {
			case "":
				taken = append(taken, l)
			case Known:
				report.Known++
			default:
				report.Refused = append(report.Refused, Refused{Addr: o.Addr(&l), Reason: why})
			}
		}
		if !dryRun && len(taken) > 0 {
			if err := o.Keep(ctx, taken); err != nil {
				return report, err
			}
		}
		report.Taken += len(taken)
	}
	return report, nil
}

func (o Options[L]) claim(l *L, seen map[string]netip.Addr, hold bool) (why string) {
	if why = o.Check(l); why != "" {
		return why
	}
	key, name := o.Who(l)
	if other, twice := seen[key]; twice {
		return fmt.Sprintf("%s has %s in the same file", name, other)
	}
	if why = o.Claim(l, hold); why == "" {
		seen[key] = o.Addr(l)
	}
	return why
}
