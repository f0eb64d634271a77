package http

import (
	"context"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type checkBMC struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.CheckBMCRequest
}

type getBMCCheck struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Wait string `query:"wait" maxLength:"16" doc:"how long to wait for its end: 30s, at most 60s"`
}

func (s *Server) checkBMC(ctx context.Context, in *checkBMC) (*reply[api.BMCCheck], error) {
	r, err := s.o.Engine.CheckBMC(ctx, actorOf(ctx), in.Ref, in.Body.Power)
	if err != nil {
		return nil, err
	}
	return &reply[api.BMCCheck]{Body: s.bmcCheck(r)}, nil
}

func (s *Server) getBMCCheck(ctx context.Context, in *getBMCCheck) (*reply[api.BMCCheck], error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r, err := s.o.Engine.BMCCheck(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	return &reply[api.BMCCheck]{Body: s.bmcCheck(r)}, nil
}

func (s *Server) bmcCheck(r fleet.BMCCheck) api.BMCCheck {
	out := api.BMCCheck{
		Node: string(r.Node), Began: r.Began, Running: r.Running, Power: r.Power, Driver: string(r.Driver),
		Vendor: r.Model.Vendor, Product: r.Model.Product, Firmware: r.Model.Firmware,
	}
	if n, err := s.o.Engine.Node(string(r.Node)); err == nil {
		out.Node = n.Title()
		if s.o.Profile != nil && !r.Running {
			out.Profile = s.o.Profile(n, r)
		}
	}
	for _, it := range r.Results {
		out.Results = append(out.Results, api.BMCResult{Check: it.Check, Grade: string(it.Grade), Detail: it.Detail, Fix: it.Fix, Took: it.Took.Seconds()})
	}
	return out
}
