package http

import (
	"net/netip"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// node is a node as the API has it: with what its boots have taught.
func (s *Server) node(n fleet.Node) api.Node {
	out := fromNode(n)
	if q := s.quirk(n); q.Reason != "" {
		out.Loader = &api.Loader{File: q.Loader, Reason: q.Reason}
	}
	return out
}

func (s *Server) quirk(n fleet.Node) fleet.Quirk {
	if s.o.Quirk == nil {
		return fleet.Quirk{}
	}
	return s.o.Quirk(n)
}

func fromNode(n fleet.Node) api.Node {
	return api.Node{
		ID: string(n.ID), Name: n.Name, MAC: string(n.MAC), UUID: n.UUID, Addr: addrText(n.Addr), Place: fromPlace(n.Place), Trust: int(n.Trust),
		Stage: string(n.Stage), Pool: string(n.Pool), Role: string(n.Role), Labels: n.Labels,
		State: string(n.State), Phase: string(n.Phase), Progress: n.Progress, Failure: fromFailure(n.Failure),
		Run: string(n.Run), BMC: n.BMC.Address, Power: fromBMC(n.BMC), Findings: fromFindings(n), Approved: n.Approved, Inventory: fromInventory(n.Inventory),
		Image: string(n.System.Image), Digest: n.System.Digest, Cluster: n.Member.Cluster, Member: n.Member.NodeID,
		Rescue: fromStay(n.Rescue), FirstSeen: n.FirstSeen, LastSeen: n.LastSeen, Revision: n.Revision,
	}
}

// fromBMC leaves out the password.
func fromBMC(b fleet.BMC) *api.PowerPath {
	if !b.Usable() {
		return nil
	}
	p := &api.PowerPath{
		Driver: string(b.Via()), Wanted: string(b.Wanted), Address: b.Address, Username: b.Username, CipherSuite: max(b.CipherSuite, 0),
		System: b.System, Pin: b.Pin, NewPin: b.NewPin, PDU: b.Outlets.Model, Outlets: b.Outlets.Outlets, Quirks: b.Quirks.Profile,
	}
	if b.Via() == fleet.DriverRedfish {
		p.Login = "session"
		if b.BasicAuth {
			p.Login = "basic"
		}
	}
	return p
}

func fromFindings(n fleet.Node) []api.BMCFinding {
	var out []api.BMCFinding
	for _, f := range n.BMC.Findings {
		d := fleet.Diagnose(f.Code)
		out = append(out, api.BMCFinding{Code: f.Code, Title: d.Title, Detail: f.Detail, Fix: d.FixFor(n.Title())})
	}
	return out
}

func fromStay(s fleet.Stay) *api.Rescue {
	if s == (fleet.Stay{}) {
		return nil
	}
	return &api.Rescue{From: string(s.From), Since: s.Since, Once: s.Once}
}

func fromPlace(p fleet.Place) *api.Place {
	if p == (fleet.Place{}) {
		return nil
	}
	return &api.Place{Subnet: p.Subnet, Relay: addrText(p.Relay), CircuitID: p.CircuitID, RemoteID: p.RemoteID}
}

func fromFailure(f fleet.Failure) *api.Failure {
	if f == (fleet.Failure{}) {
		return nil
	}
	return &api.Failure{Code: string(f.Code), Phase: string(f.Phase), Text: f.Text, Hint: f.Hint}
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func fromPool(site fleet.Site, p fleet.Pool, counts map[string]int, run fleet.RunID) api.Pool {
	profile, _ := site.Profile(p.Profile)
	if counts == nil {
		counts = map[string]int{}
	}
	return api.Pool{
		Name: string(p.Name), Stage: string(p.Stage), Profile: p.Profile, Image: string(profile.Image),
		Cluster: string(p.Cluster), Managers: p.Managers, Nodes: counts, Run: string(run),
	}
}

func fromPlan(p fleet.Plan) api.Plan {
	out := api.Plan{Pool: string(p.Pool), Hash: p.Hash(), AsDeclared: p.AsDeclared(), Items: []api.PlanItem{}}
	for _, it := range p.Items {
		out.Items = append(out.Items, api.PlanItem{
			Node: string(it.Node), Title: it.Title, Name: it.Name, Class: string(it.Class),
			Role: string(it.Role), Reason: it.Reason, Disk: it.Disk, Before: it.Before,
		})
	}
	return out
}

func fromRun(r fleet.Run) api.Run {
	done, failed, working := r.Counts()
	out := api.Run{
		ID: string(r.ID), Pool: string(r.Pool), Plan: r.Plan, State: string(r.State), Actor: r.Actor,
		Started: r.Started, Ended: r.Ended, Done: done, Failed: failed, Working: working,
		Held: len(r.Nodes) - done - failed - working, Nodes: []api.RunNode{},
	}
	for _, n := range r.Nodes {
		out.Nodes = append(out.Nodes, fromRunNode(n))
	}
	return out
}

func fromRunNode(n fleet.RunNode) api.RunNode {
	out := api.RunNode{
		Node: string(n.Node), Name: n.Name, Class: string(n.Class), Role: string(n.Role), State: string(n.State),
		Phase: string(n.Phase), Attempt: n.Attempt, Failure: fromFailure(n.Failure), Started: n.Started, Ended: n.Ended, Notes: n.Notes,
	}
	for _, t := range n.Times {
		out.Times = append(out.Times, api.PhaseTime{Phase: string(t.Phase), At: t.At})
	}
	return out
}

// setupWord is a policy in the words of site.yaml.
func setupWord(p fleet.SetupPolicy, do string) string {
	switch p {
	case fleet.SetupDemand:
		return do
	case fleet.SetupPossible:
		return "where-possible"
	default:
		return "leave"
	}
}

func fromEvent(e fleet.Event) api.Event {
	return api.Event{
		Seq: e.Seq, At: e.At, Type: string(e.Type), Node: string(e.Node), Pool: string(e.Pool),
		Run: string(e.Run), Actor: e.Actor, Text: e.Text,
	}
}

// fromSite leaves out what rules know of BMCs: passwords are sealed in there.
func fromSite(s fleet.Site) api.Site {
	out := api.Site{
		Stages: []api.SiteStage{}, Pools: []api.SitePool{}, Profiles: []api.SiteProfile{},
		Subnets: []api.SiteSubnet{}, Rules: []api.SiteRule{},
	}
	for _, st := range s.Stages {
		out.Stages = append(out.Stages, api.SiteStage{Name: string(st.Name), Registry: st.Registry})
	}
	for _, p := range s.Pools {
		out.Pools = append(out.Pools, api.SitePool{
			Name: string(p.Name), Stage: string(p.Stage), Profile: p.Profile, Cluster: string(p.Cluster),
			Managers: p.Managers, Labels: p.Labels, Trust: int(p.Trust),
			Firmware: setupWord(p.Firmware, "update"), BIOS: setupWord(p.BIOS, "apply"),
		})
	}
	for _, p := range s.Profiles {
		out.Profiles = append(out.Profiles, api.SiteProfile{Name: p.Name, Image: string(p.Image), SSHKeys: p.SSHKey, Kernel: p.Kernel})
	}
	for _, n := range s.Subnets {
		subnet := api.SiteSubnet{Name: n.Name, CIDR: n.CIDR.String(), Mode: string(n.Mode), Router: addrText(n.Router)}
		for _, r := range n.Ranges {
			subnet.Ranges = append(subnet.Ranges, r.First.String()+"-"+r.Last.String())
		}
		out.Subnets = append(out.Subnets, subnet)
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, api.SiteRule{Name: r.Name, Pool: string(r.Pool), Role: string(r.Role), Approve: r.Approve})
	}
	return out
}
