package dhcp

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// Nodes finds machines, in memory.
type Nodes interface {
	NodeByMAC(mac fleet.MAC) (fleet.Node, bool)
}

// Leases is where leases are kept. When SaveLeases returns nil, they are on
// stable storage. EachLease calls do for them in the order in which they were
// stored: one that comes later takes the place of an earlier one of the same
// address, or of the same client and subnet.
type Leases interface {
	EachLease(ctx context.Context, do func(fleet.Lease)) error
	SaveLeases(ctx context.Context, leases []fleet.Lease) error
}

// Observer is told what was seen. It never blocks.
type Observer interface {
	Observe(ev fleet.Evidence)
}

// Alarms is told of trouble that lasts, and when it is over; codes are those
// of [fleet.Diagnoses]. It never blocks.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// Options are what a server needs.
type Options struct {
	Subnets    []fleet.Subnet
	Pools      []fleet.Pool // whose nodes get options of their own
	Interfaces []string     // answer on these only; empty: on all
	HTTPPort   uint16       // of the HTTP boot listener; 0: 80
	HTTPSPort  uint16       // of that with TLS; 0: there is none

	ForeignEvery time.Duration // how often other servers are asked for; 0: 30 s
	DUID         []byte        // of our DHCPv6 server, which is no other one; nil: there is none

	Nodes    Nodes
	Leases   Leases
	Observer Observer // may be nil
	Alarms   Alarms   // may be nil
	// Quirk finds how a machine's model boots otherwise than usual; may be nil.
	Quirk func(r pxe.Request, n fleet.Node) fleet.Quirk
	Log   *slog.Logger     // may be nil
	Now   func() time.Time // nil: time.Now
}

func (o Options) withDefaults() (Options, error) {
	if o.Nodes == nil || o.Leases == nil {
		return o, errors.New("dhcp: options need Nodes and Leases")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Observer = cmp.Or[Observer](o.Observer, nobody{})
	o.Alarms = cmp.Or[Alarms](o.Alarms, nobody{})
	if o.Quirk == nil {
		o.Quirk = func(pxe.Request, fleet.Node) fleet.Quirk { return fleet.Quirk{} }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

type nobody struct{}

func (nobody) Observe(fleet.Evidence)        {}
func (nobody) Raise(code, on, detail string) {}
func (nobody) Clear(code, on string)         {}
