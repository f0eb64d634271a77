package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
)

// ForeignServers returns the other DHCP servers that answer now.
func (s *Server) ForeignServers() []foreign.Server { return s.watch.Servers() }

// RelayedForeign notes another server that a relay of ours sees on a subnet.
func (s *Server) RelayedForeign(subnet string, other foreign.Server) { s.watch.Relayed(subnet, other) }

// ForeignStats returns the counters of the search for other servers.
func (s *Server) ForeignStats() foreign.Stats { return s.watch.Stats() }

// Blind says why other servers cannot be seen; nil when they can.
func (s *Server) Blind() error { return s.watch.Blind() }

func (s *Server) newWatch() *foreign.Watch {
	return foreign.New(foreign.Options{
		Networks: s.networks, Own: s.ifaces.own, Alarms: s.o.Alarms, Log: s.o.Log, Now: s.o.Now, Every: s.o.ForeignEvery,
	})
}

// networks are the Ethernet interfaces that we answer on. Without a list of
// them it is those that carry a declared subnet: nobody asks what goes on
// between containers.
func (s *Server) networks() []foreign.Network {
	var list []foreign.Network
	for index, addrs := range s.ifaces.byIndex() {
		ifc, err := net.InterfaceByIndex(index)
		if err != nil || len(ifc.HardwareAddr) != 6 || ifc.Flags&net.FlagUp == 0 || ifc.Flags&net.FlagLoopback != 0 {
			continue
		}
		named := len(s.ifaces.names) > 0
		if !named && !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return s.nets.Load().of(p.Addr()) != nil }) {
			continue
		}
		list = append(list, foreign.Network{Index: index, Name: ifc.Name, MAC: ifc.HardwareAddr, Addrs: addrs})
	}
	return list
}

// noteForeign notes that a client chose another server. Everybody on its
// network hears that.
func (s *Server) noteForeign(sc *scene) {
	if sc.kind != dhcpv4.MessageTypeRequest || !sc.chosen.IsValid() || sc.chosen == sc.name || s.ifaces.own(sc.chosen) {
		return
	}
	s.stats.foreign.Add(1)
	s.watch.Chosen(sc.chosen, sc.subnet.Name)
}

// CheckArming refuses to give out addresses on a subnet where another server
// does: it asks who answers now, on those subnets that wanted arms and before
// did not. Servers that wanted knows of may answer.
func (s *Server) CheckArming(ctx context.Context, before, wanted []fleet.Subnet) error {
	armed := newlyArmed(before, wanted)
	if len(armed) == 0 {
		return nil
	}
	others, err := s.watch.Probe(ctx)
	if err != nil {
		return &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeArmBlind, Op: "arm", On: "subnet " + armed[0].Name,
			Err:  fmt.Errorf("whether another DHCP server answers there is not known: %w", err),
			Hint: "give the server CAP_NET_RAW, or arm it all the same: provision apply --force-dhcp",
		}
	}
	for _, n := range armed {
		for _, other := range others {
			if other.Full && !slices.Contains(n.KnownDHCP, other.Addr) && s.answersOn(other, n) {
				return refuseArming(n, other)
			}
		}
	}
	return nil
}

// newlyArmed lists the subnets that are to give out addresses and did not, or
// not of this network.
func newlyArmed(before, wanted []fleet.Subnet) (armed []fleet.Subnet) {
	gives := func(n fleet.Subnet) bool { return n.Mode == fleet.Full || n.Mode == fleet.Reserved }
	for _, n := range wanted {
		was := slices.ContainsFunc(before, func(o fleet.Subnet) bool { return o.CIDR == n.CIDR && gives(o) })
		if n.CIDR.Addr().Is4() && gives(n) && !was {
			armed = append(armed, n)
		}
	}
	return armed
}

// answersOn reports whether a server was seen where a subnet, which need not
// be declared yet, is or would be.
func (s *Server) answersOn(other foreign.Server, n fleet.Subnet) bool {
	if other.Iface == "" { // behind a relay
		return other.Subnet == n.Name || n.CIDR.Contains(other.Addr)
	}
	return slices.ContainsFunc(s.networks(), func(net foreign.Network) bool {
		return net.Name == other.Iface && slices.ContainsFunc(net.Addrs, func(p netip.Prefix) bool { return n.CIDR.Contains(p.Addr()) })
	})
}

func refuseArming(n fleet.Subnet, other foreign.Server) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeRogueDHCP, Op: "arm", On: fmt.Sprintf("subnet %s (%s)", n.Name, n.Mode),
		Err:  fmt.Errorf("another DHCP server answers there: %s (%s)", other.Addr, strings.TrimSpace(other.Words())),
		Hint: "turn that server off, or use mode: proxy to stand beside it, or add it to known_dhcp; to arm it all the same: provision apply --force-dhcp",
	}
}
