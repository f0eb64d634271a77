package http

import (
	"context"
	"errors"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type rotateSecrets struct {
	Body api.RotateSecrets
}

func (s *Server) listSecrets(_ context.Context, _ *nothing) (*reply[api.Secrets], error) {
	if s.o.Secrets == nil {
		return nil, noSecrets()
	}
	status, err := s.o.Secrets.Status()
	return &reply[api.Secrets]{Body: status}, err
}

func (s *Server) rotateSecrets(ctx context.Context, in *rotateSecrets) (*reply[api.Secrets], error) {
	if s.o.Secrets == nil {
		return nil, noSecrets()
	}
	status, err := s.o.Secrets.Rotate(ctx, actorOf(ctx), in.Body.KeepKey)
	return &reply[api.Secrets]{Body: status}, err
}

func noSecrets() error {
	return &fleet.Error{Kind: fleet.NotFound, Code: "E-SECRETS", Op: "list secrets", Err: errors.New("this server keeps none")}
}
