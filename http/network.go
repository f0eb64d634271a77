package http

import (
	"context"
	"net/netip"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func (s *Server) listAlarms(context.Context, *nothing) (*reply[api.AlarmList], error) {
	list := api.AlarmList{Alarms: []api.Alarm{}}
	for _, a := range s.o.Engine.Alarms() {
		list.Alarms = append(list.Alarms, fromAlarm(a))
	}
	return &reply[api.AlarmList]{Body: list}, nil
}

func fromAlarm(a fleet.Alarm) api.Alarm {
	d := fleet.Diagnose(a.Code)
	return api.Alarm{
		Code: a.Code, Title: d.Title, On: a.On, Detail: a.Detail, Fix: d.FixFor(a.On),
		Since: a.Since, Seen: a.Seen, Count: a.Count,
	}
}

func (s *Server) listCounters(context.Context, *nothing) (*reply[map[string]int64], error) {
	counters := map[string]int64{}
	if s.o.Counters != nil {
		counters = s.o.Counters()
	}
	return &reply[map[string]int64]{Body: counters}, nil
}

// noNetwork is that of a server without DHCP.
type noNetwork struct{}

func (noNetwork) Foreign() []api.ForeignServer               { return nil }
func (noNetwork) Uses() map[string][]api.RangeUse            { return nil }
func (noNetwork) InterfaceOf(fleet.Subnet) string            { return "" }
func (noNetwork) List(string, netip.Addr, int) []fleet.Lease { return nil }
func (noNetwork) Release(context.Context, netip.Addr) (fleet.Lease, error) {
	return fleet.Lease{}, errNoDHCP()
}

func (noNetwork) Import(context.Context, []fleet.Lease, []fleet.Lease6, string, bool) (api.ImportedLeases, error) {
	return api.ImportedLeases{}, errNoDHCP()
}

func errNoDHCP() error {
	return newProblem(409, "E-DHCP-OFF", "this server serves no DHCP", "set listen.dhcp in provision.yaml")
}

func (s *Server) listSubnets(context.Context, *nothing) (*reply[api.SubnetList], error) {
	return &reply[api.SubnetList]{Body: s.subnets()}, nil
}

// subnets are the declared networks, each with what is known of it.
func (s *Server) subnets() api.SubnetList {
	list := api.SubnetList{Subnets: []api.Subnet{}, Foreign: []api.ForeignServer{}}
	uses, foreign, alarms := s.o.Network.Uses(), s.o.Network.Foreign(), s.o.Engine.Alarms()
	for _, n := range s.o.Engine.Site().Subnets {
		out := api.Subnet{
			Name: n.Name, CIDR: n.CIDR.String(), Mode: string(n.Mode), Interface: s.o.Network.InterfaceOf(n),
			Ranges: uses[n.Name], Foreign: []api.ForeignServer{},
		}
		if out.Ranges == nil {
			out.Ranges = []api.RangeUse{}
		}
		for _, f := range foreign {
			if f.Subnet == n.Name {
				out.Foreign = append(out.Foreign, f)
			}
		}
		for _, a := range alarms {
			if isAbout(a, n.Name) {
				out.Alarms++
			}
		}
		list.Subnets = append(list.Subnets, out)
	}
	for _, f := range foreign {
		if f.Subnet == "" {
			list.Foreign = append(list.Foreign, f)
		}
	}
	return list
}

// isAbout reports whether an alarm names a subnet: those of the network end
// with "subnet NAME", or go on with a comma.
func isAbout(a fleet.Alarm, subnet string) bool {
	on := a.On + ","
	return strings.HasPrefix(on, "subnet "+subnet+",") || strings.Contains(on, " subnet "+subnet+",")
}

type listLeases struct {
	Subnet string `query:"subnet" maxLength:"63"`
	After  string `query:"after" maxLength:"45" doc:"address that the page begins after"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (s *Server) listLeases(_ context.Context, in *listLeases) (*reply[api.LeaseList], error) {
	var after netip.Addr
	if in.After != "" {
		var err error
		if after, err = netip.ParseAddr(in.After); err != nil {
			return nil, newProblem(422, "E-ADDRESS", "after is not an address", "")
		}
	}
	list := api.LeaseList{Leases: []api.Lease{}}
	leases := s.o.Network.List(in.Subnet, after, in.Limit+1)
	if len(leases) > in.Limit {
		leases = leases[:in.Limit]
		list.Next = leases[in.Limit-1].Addr.String()
	}
	for _, l := range leases {
		list.Leases = append(list.Leases, s.fromLease(l))
	}
	return &reply[api.LeaseList]{Body: list}, nil
}

func (s *Server) fromLease(l fleet.Lease) api.Lease {
	out := api.Lease{
		Addr: l.Addr.String(), Subnet: l.Subnet, MAC: string(l.MAC), ClientID: l.ClientID, Hostname: l.Hostname,
		State: string(l.State), Expires: l.Expires,
	}
	if n, ok := s.o.Engine.NodeByMAC(l.MAC); ok {
		out.Node = n.Title()
	}
	return out
}

type leaseRef struct {
	Addr string `path:"addr" maxLength:"45"`
}

func (s *Server) releaseLease(ctx context.Context, in *leaseRef) (*reply[api.Lease], error) {
	addr, err := netip.ParseAddr(in.Addr)
	if err != nil {
		return nil, newProblem(422, "E-ADDRESS", "that is not an address", "see: provision leases list")
	}
	l, err := s.o.Network.Release(ctx, addr)
	if err != nil {
		return nil, err
	}
	s.o.Log.InfoContext(ctx, "lease released", "addr", addr, "mac", l.MAC, "user", actorOf(ctx))
	return &reply[api.Lease]{Body: s.fromLease(l)}, nil
}

type importLeases struct {
	Body api.ImportLeases
}

func (s *Server) importLeases(ctx context.Context, in *importLeases) (*reply[api.ImportedLeases], error) {
	four, six, err := importedLeases(in.Body.Leases)
	if err != nil {
		return nil, err
	}
	done, err := s.o.Network.Import(ctx, four, six, in.Body.Subnet, in.Body.DryRun)
	if err != nil {
		return nil, err
	}
	if done.Refused == nil {
		done.Refused = []api.RefusedLease{}
	}
	if !in.Body.DryRun {
		s.o.Log.InfoContext(ctx, "leases imported", "count", done.Taken, "refused", len(done.Refused), "user", actorOf(ctx))
	}
	return &reply[api.ImportedLeases]{Body: done}, nil
}

// importedLeases reads leases of both families. One of IPv6 may be of a client
// that hides its MAC address.
func importedLeases(list []api.Lease) (four []fleet.Lease, six []fleet.Lease6, err error) {
	for _, l := range list {
		addr, err := netip.ParseAddr(l.Addr)
		if err != nil || addr.Zone() != "" {
			return nil, nil, newProblem(422, "E-ADDRESS", "a lease without an address", "")
		}
		var mac fleet.MAC
		if l.MAC != "" || addr.Is4() {
			if mac, err = fleet.ParseMAC(l.MAC); err != nil {
				return nil, nil, err
			}
		}
		if addr.Is6() {
			six = append(six, fleet.Lease6{Addr: addr, DUID: fleet.CleanText(l.ClientID), IAID: l.IAID, MAC: mac, Expires: l.Expires})
			continue
		}
		four = append(four, fleet.Lease{Addr: addr, MAC: mac, ClientID: fleet.CleanText(l.ClientID), Hostname: fleet.HostLabel(l.Hostname), Expires: l.Expires})
	}
	return four, six, nil
}

func (s *Server) doctor(ctx context.Context, _ *nothing) (*reply[api.CheckList], error) {
	list := api.CheckList{Checks: []api.Check{}}
	if s.o.Doctor != nil {
		list.Checks = append(list.Checks, s.o.Doctor(ctx)...)
	}
	return &reply[api.CheckList]{Body: list}, nil
}
