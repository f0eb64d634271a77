package http

import (
	"context"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type updateFirmware struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.UpdateFirmwareRequest
}

func (s *Server) getFirmware(_ context.Context, in *nodeRef) (*reply[[]api.FirmwareUpdate], error) {
	_, all, err := s.o.Engine.Firmware(in.Ref)
	return firmwareReply(all, err)
}

func (s *Server) updateFirmware(ctx context.Context, in *updateFirmware) (*reply[[]api.FirmwareUpdate], error) {
	_, all, err := s.o.Engine.UpdateFirmware(ctx, actorOf(ctx), in.Ref, fleet.UpdateOptions(in.Body))
	return firmwareReply(all, err)
}

func firmwareReply(all []fleet.FirmwareUpdate, err error) (*reply[[]api.FirmwareUpdate], error) {
	if err != nil {
		return nil, err
	}
	out := []api.FirmwareUpdate{}
	for _, u := range all {
		out = append(out, api.FirmwareUpdate{
			Component: u.Component, Is: u.Is, Want: u.Want, URL: u.URL, Missing: u.Missing,
			State: string(u.State), Percent: u.Percent, Error: u.Error,
		})
	}
	return &reply[[]api.FirmwareUpdate]{Body: out}, nil
}
