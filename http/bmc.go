package http

import (
	"context"
	"errors"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type probeBMC struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.ProbeBMCRequest
}

type acceptPin struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.AcceptPinRequest
}

func (s *Server) powerDone(ctx context.Context, in *nodeRef) (*reply[api.Node], error) {
	n, err := s.o.Engine.PowerDone(ctx, actorOf(ctx), in.Ref)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}

func (s *Server) probeBMC(ctx context.Context, in *probeBMC) (*reply[api.Node], error) {
	if p := in.Body.System; p != "" && (!strings.HasPrefix(p, "/redfish/") || len(p) > 256) {
		return nil, fleet.Invalidf("system", "write its path: /redfish/v1/Systems/1", errors.New("this is no path of a Redfish system"))
	}
	n, err := s.o.Engine.ProbeBMC(ctx, actorOf(ctx), in.Ref, in.Body.System)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}

func (s *Server) rotateBMC(ctx context.Context, in *nodeRef) (*reply[api.Node], error) {
	n, err := s.o.Engine.RotateBMC(ctx, actorOf(ctx), in.Ref)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}

func (s *Server) acceptPin(ctx context.Context, in *acceptPin) (*reply[api.Node], error) {
	n, err := s.o.Engine.AcceptPin(ctx, actorOf(ctx), in.Ref, in.Body.Pin)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}
