package dhcp

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/rackstage/provision/fleet"
)

// A StandIn answers known machines for a server that is away. It has no socket
// and stores nothing: each machine gets the address that the server gave it,
// for a short while, and nobody gets another one.
type StandIn struct {
	mu sync.Mutex
	s  *Server
	sc scene
}

// StandInOptions say for whom to stand in. An approved node's address is its
// Addr.
type StandInOptions struct {
	Subnets    []fleet.Subnet // of their modes and ranges nothing is used
	Interfaces []string
	HTTPPort   uint16 // 0: 80
	Nodes      Nodes
	Log        *slog.Logger // may be nil
}

// standInLease is short: the server that comes back shall soon be asked again.
const standInLease = 600 // seconds

// NewStandIn returns a stand-in. It reads the addresses of the interfaces.
func NewStandIn(o StandInOptions) (*StandIn, error) {
	subnets := make([]fleet.Subnet, len(o.Subnets))
	for i, n := range o.Subnets {
		n.Mode, n.Ranges, n.Lease, n.NoProbe = fleet.Reserved, nil, standInLease, true
		subnets[i] = n
	}
	s, err := New(Options{Subnets: subnets, Interfaces: o.Interfaces, HTTPPort: o.HTTPPort, Nodes: o.Nodes, Leases: noLeases{}, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return &StandIn{s: s}, s.refresh()
}

// Refresh reads the addresses of the interfaces again.
func (t *StandIn) Refresh() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.refresh()
}

// An Answer is a packet on its way out.
type Answer struct {
	Packet []byte
	To     netip.AddrPort
	From   netip.Addr
	Index  int        // of the interface to send on; 0: as the routes say
	Leased netip.Addr // the address that it confirms; invalid when it confirms none
}

// Answer says what a packet gets that came by an interface, if anything.
func (t *StandIn) Answer(packet []byte, index int, from netip.AddrPort, to netip.Addr) (Answer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.s.handle(&t.sc, packet, arrival{ifindex: index, from: from, to: to})
	if !ok {
		return Answer{}, false
	}
	a := Answer{Packet: append([]byte(nil), r.packet...), To: r.to, From: r.from, Index: r.ifindex}
	if r.lease.State != "" {
		t.s.book.stored([]fleet.Lease{r.lease}, true)
		if r.lease.State == fleet.LeaseBound {
			a.Leased = r.lease.Addr
		}
	}
	return a, len(a.Packet) > 0
}

type noLeases struct{}

func (noLeases) EachLease(context.Context, func(fleet.Lease)) error { return nil }
func (noLeases) SaveLeases(context.Context, []fleet.Lease) error    { return nil }
