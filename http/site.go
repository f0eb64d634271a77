package http

import (
	"context"

	"github.com/rackstage/provision/api"
)

type applySite struct {
	Body api.ApplyRequest
}

func (s *Server) health(context.Context, *nothing) (*reply[api.Health], error) {
	return &reply[api.Health]{Body: api.Health{Status: "ok"}}, nil
}

func (s *Server) version(context.Context, *nothing) (*reply[api.Version], error) {
	return &reply[api.Version]{Body: s.o.Version}, nil
}

func (s *Server) getSite(context.Context, *nothing) (*reply[api.Site], error) {
	return &reply[api.Site]{Body: fromSite(s.o.Engine.Site())}, nil
}

func (s *Server) applySite(ctx context.Context, in *applySite) (*reply[api.ApplyReply], error) {
	site, err := s.o.ParseSite([]byte(in.Body.YAML))
	if err != nil {
		return nil, err
	}
	if s.o.Arming != nil && !in.Body.ForceDHCP {
		if err := s.o.Arming(ctx, s.o.Engine.Site().Subnets, site.Subnets); err != nil {
			return nil, err
		}
	}
	changes, err := s.o.Engine.Apply(ctx, actorOf(ctx), site, in.Body.DryRun)
	if err != nil {
		return nil, err
	}
	if changes == nil {
		changes = []string{}
	}
	return &reply[api.ApplyReply]{Body: api.ApplyReply{Changes: changes}}, nil
}

func (s *Server) listImages(context.Context, *nothing) (*reply[api.ImageList], error) {
	images, err := s.o.Images.List()
	if err != nil {
		return nil, err
	}
	if images == nil {
		images = []api.Image{}
	}
	return &reply[api.ImageList]{Body: api.ImageList{Images: images}}, nil
}
