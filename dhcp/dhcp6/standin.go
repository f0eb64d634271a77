package dhcp6

import (
	"log/slog"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rackstage/provision/fleet"
)

// A StandIn answers known machines for a server that is away, and in its name,
// so that they can renew with either. It has no socket and stores nothing: each
// machine gets the address that the server gave it, for a short while, and
// nobody gets another one. Who can be given nothing hears nothing: what is not
// known here may well be known to the server.
type StandIn struct{ s *Server }

// StandInOptions say for whom to stand in. An approved node's address is its
// Addr.
type StandInOptions struct {
	DUID       []byte         // of the server; without one nobody is answered
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
		n.Mode, n.Ranges, n.Lease = fleet.Reserved, nil, standInLease
		subnets[i] = n
	}
	s, err := New(Options{Subnets: subnets, Interfaces: o.Interfaces, HTTPPort: o.HTTPPort, Nodes: o.Nodes, Leases: noLeases{}, Log: o.Log})
	if err != nil {
		return nil, err
	}
	s.id = o.DUID
	t := &StandIn{s: s}
	return t, t.Refresh()
}

// Refresh reads the addresses of the interfaces again.
func (t *StandIn) Refresh() error {
	if _, err := t.s.links.Refresh(); err != nil {
		return err
	}
	t.s.book.reconfigure(t.s.links.Owned())
	return nil
}

// An Answer is a packet on its way out.
type Answer struct {
	Packet []byte
	To     netip.AddrPort
	Leased netip.Addr // the address that it confirms; invalid when it confirms none
}

// Answer says what a machine's packet gets that came by an interface, if
// anything. Whoever is behind another relay has to wait.
func (t *StandIn) Answer(packet []byte, index int, from netip.AddrPort, to netip.Addr) (Answer, bool) {
	if len(t.s.id) < minDUID || len(packet) == 0 || dhcpv6.MessageType(packet[0]) == dhcpv6.MessageTypeRelayForward {
		return Answer{}, false
	}
	r, ok := t.s.handle(packet, arrival{ifindex: index, from: from, to: to})
	if !ok {
		return Answer{}, false
	}
	t.s.book.stored(r.leases, true)
	if !r.gives(dhcpv6.MessageType(packet[0])) {
		return Answer{}, false
	}
	a := Answer{Packet: r.packet, To: r.to}
	for _, l := range r.leases {
		if l.State == fleet.LeaseBound {
			a.Leased = l.Addr
		}
	}
	return a, true
}

// gives reports whether a message got what it asked for, and not that it cannot
// have it.
func (r *reply) gives(asked dhcpv6.MessageType) bool {
	switch asked {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm:
		m, err := dhcpv6.MessageFromBytes(r.packet)
		if err != nil {
			return false
		}
		status := m.Options.Status()
		return status == nil || status.StatusCode == iana.StatusSuccess
	case dhcpv6.MessageTypeInformationRequest:
		return true
	default:
		return len(r.leases) > 0
	}
}
