package dhcp

import (
	"context"
	"encoding/hex"
	"fmt"
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
		Networks: s.networks, Own: s.links.Own, DUID: hex.EncodeToString(s.o.DUID), Silent: true, Alarms: s.o.Alarms, Log: s.o.Log, Now: s.o.Now, Every: s.o.ForeignEvery,
	})
}

// Imaginary reports whether a client is the machine that our probes are from:
// nobody of ours shall answer it.
func (s *Server) Imaginary(mac fleet.MAC) bool { return s.watch.Imaginary(mac) }

// ChosenDUID notes that a client chose another DHCPv6 server.
func (s *Server) ChosenDUID(duid []byte, subnet string) { s.watch.ChosenDUID(duid, subnet) }

// networks are the Ethernet interfaces that we answer on. Without a list of
// them it is those that carry a declared subnet: nobody asks what goes on
// between containers.
func (s *Server) networks() []foreign.Network {
	var list []foreign.Network
	for _, l := range s.links.All() {
		n, ok := foreign.NetworkOf(l.Index)
		if ok && (len(s.o.Interfaces) > 0 || slices.ContainsFunc(n.Addrs, s.isDeclared)) {
			list = append(list, n)
		}
	}
	return list
}

// isDeclared reports whether an address of ours is on a declared subnet, of
// either family.
func (s *Server) isDeclared(ours netip.Prefix) bool {
	s.declaring.Lock()
	defer s.declaring.Unlock()
	return slices.ContainsFunc(s.o.Subnets, func(n fleet.Subnet) bool { return n.CIDR.Contains(ours.Addr()) })
}

// noteForeign notes that a client chose another server. Everybody on its
// network hears that.
func (s *Server) noteForeign(sc *scene) {
	if sc.kind != dhcpv4.MessageTypeRequest || !sc.chosen.IsValid() || sc.chosen == sc.name || s.links.Own(sc.chosen) {
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
			if other.Full && other.Is6() == n.CIDR.Addr().Is6() && !knows(n, other) && s.answersOn(other, n) {
				return refuseArming(n, other)
			}
		}
	}
	return nil
}

// knows reports whether site.yaml says that a server belongs there.
func knows(n fleet.Subnet, other foreign.Server) bool {
	return slices.Contains(n.KnownDHCP, other.Addr) || other.DUID != "" && slices.Contains(n.KnownDUIDs, other.DUID)
}

// newlyArmed lists the subnets that are to give out addresses and did not, or
// not of this network.
func newlyArmed(before, wanted []fleet.Subnet) (armed []fleet.Subnet) {
	gives := func(n fleet.Subnet) bool { return n.Mode.GivesAddresses() }
	for _, n := range wanted {
		was := slices.ContainsFunc(before, func(o fleet.Subnet) bool { return o.CIDR == n.CIDR && gives(o) })
		if gives(n) && !was {
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
	hint := "turn that server off, or use mode: proxy to stand beside it, or add it to known_dhcp; to arm it all the same: provision apply --force-dhcp"
	if other.Is6() {
		hint = "turn that server off, or add it to known_dhcp; to arm it all the same: provision apply --force-dhcp"
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeRogueDHCP, Op: "arm", On: fmt.Sprintf("subnet %s (%s)", n.Name, n.Mode), Hint: hint,
		Err: fmt.Errorf("another DHCP server answers there: %s (%s)", other.Name(), strings.TrimSpace(other.Words())),
	}
}
