package dhcp6

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

// Leases is where leases are kept. When SaveLeases6 returns nil, they are on
// stable storage.
type Leases interface {
	Leases6(ctx context.Context) ([]fleet.Lease6, error)
	SaveLeases6(ctx context.Context, leases []fleet.Lease6) error
	ForgetLeases6(ctx context.Context, before time.Time) error
}

// Observer is told what was seen. It never blocks.
type Observer interface {
	Observe(ev fleet.Evidence)
}

// Alarms is told of trouble that an operator must know of.
type Alarms interface {
	Raise(code, on, detail string)
	Clear(code, on string)
}

// Others looks for other servers.
type Others interface {
	// Imaginary reports whether a client is the machine that its probes are
	// from.
	Imaginary(mac fleet.MAC) bool
	// ChosenDUID notes that a client chose another server.
	ChosenDUID(duid []byte, subnet string)
}

// Options are what a server needs.
type Options struct {
	Subnets    []fleet.Subnet // IPv4 ones too: advertisements depend on them
	Interfaces []string       // answer on these only; empty: on all
	HTTPPort   uint16         // of the HTTP boot listener; 0: 80
	HTTPSPort  uint16         // of that with TLS; 0: there is none
	ServerID   [16]byte       // the UUID of our DUID: the same at each start

	Nodes    Nodes
	Leases   Leases
	Observer Observer // may be nil
	Alarms   Alarms   // may be nil
	Others   Others   // may be nil
	// Quirk finds how a machine's model boots otherwise than usual; may be nil.
	Quirk func(r pxe.Request, n fleet.Node) fleet.Quirk
	Log   *slog.Logger     // may be nil
	Now   func() time.Time // nil: time.Now
}

func (o Options) withDefaults() (Options, error) {
	if o.Nodes == nil || o.Leases == nil {
		return o, errors.New("dhcp6: options need Nodes and Leases")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Observer = cmp.Or[Observer](o.Observer, nobody{})
	o.Alarms = cmp.Or[Alarms](o.Alarms, nobody{})
	o.Others = cmp.Or[Others](o.Others, nobody{})
	if o.Quirk == nil {
		o.Quirk = func(pxe.Request, fleet.Node) fleet.Quirk { return fleet.Quirk{} }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

type nobody struct{}

func (nobody) Observe(fleet.Evidence)       {}
func (nobody) Raise(string, string, string) {}
func (nobody) Clear(string, string)         {}
func (nobody) Imaginary(fleet.MAC) bool     { return false }
func (nobody) ChosenDUID([]byte, string)    {}
