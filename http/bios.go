package http

import (
	"context"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func (s *Server) getBIOS(ctx context.Context, in *nodeRef) (*reply[api.BIOS], error) {
	n, b, changes, err := s.o.Engine.BIOS(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	out := fromBIOS(n, changes)
	out.Attributes = b.Attributes
	return &reply[api.BIOS]{Body: out}, nil
}

// A request without a body is one without force.
type applyBIOS struct {
	Ref  string                `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body *api.ApplyBIOSRequest `required:"false"`
}

func (s *Server) applyBIOS(ctx context.Context, in *applyBIOS) (*reply[api.BIOS], error) {
	n, changes, err := s.o.Engine.ApplyBIOS(ctx, actorOf(ctx), in.Ref, in.Body != nil && in.Body.Force)
	if err != nil {
		return nil, err
	}
	return &reply[api.BIOS]{Body: fromBIOS(n, changes)}, nil
}

func fromBIOS(n fleet.Node, changes []fleet.BIOSChange) api.BIOS {
	out := api.BIOS{Node: string(n.ID), Name: n.Title(), Changes: []api.BIOSChange{}}
	for _, c := range changes {
		out.Changes = append(out.Changes, api.BIOSChange(c))
	}
	return out
}
