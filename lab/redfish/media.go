package redfish

import (
	"context"
	"net/http"
	"path"
	"strings"
)

// mediaResources are the virtual drives: one, a CD drive, for each system.
func (s *Service) mediaResources() map[string]resource {
	p := s.managerPath() + "/VirtualMedia"
	all := map[string]resource{
		p: {get: func(*http.Request) (object, error) {
			var paths []string
			for _, x := range s.systems {
				paths = append(paths, s.drive(x))
			}
			return list(p, "VirtualMediaCollection", "Virtual Media", paths), nil
		}},
	}
	for _, x := range s.systems {
		all[s.drive(x)] = resource{get: func(r *http.Request) (object, error) { return s.showMedia(r.Context(), x) }}
		all[s.drive(x)+"/Actions/VirtualMedia.InsertMedia"] = resource{post: func(w http.ResponseWriter, r *http.Request, in object) error {
			return s.insert(w, r, x, in)
		}}
		all[s.drive(x)+"/Actions/VirtualMedia.EjectMedia"] = resource{post: func(w http.ResponseWriter, r *http.Request, _ object) error {
			return s.eject(w, r, x)
		}}
	}
	return all
}

// drive is the address of a system's drive: Cd, with the system's id where
// there are several.
func (s *Service) drive(x *system) string {
	id := "Cd"
	if len(s.systems) > 1 {
		id += "-" + x.ID
	}
	return s.managerPath() + "/VirtualMedia/" + id
}

func (s *Service) showMedia(ctx context.Context, x *system) (object, error) {
	image, err := x.Machine.Media(ctx)
	if err != nil {
		return nil, err
	}
	p := s.drive(x)
	o := item(p, "VirtualMedia.v1_6_3.VirtualMedia", path.Base(p), "Virtual CD", object{
		"MediaTypes": []string{"CD", "DVD"}, "Inserted": image != "", "WriteProtected": true, "ConnectedVia": "NotConnected",
		"Image": nil, "ImageName": nil, "TransferProtocolType": nil, "TransferMethod": nil,
		"Actions": object{
			"#VirtualMedia.InsertMedia": object{"target": p + "/Actions/VirtualMedia.InsertMedia"},
			"#VirtualMedia.EjectMedia":  object{"target": p + "/Actions/VirtualMedia.EjectMedia"},
		},
	})
	if image != "" {
		url := x.url(image)
		o["Image"], o["ImageName"], o["ConnectedVia"], o["TransferMethod"] = url, path.Base(url), "URI", "Stream"
		scheme, _, _ := strings.Cut(url, ":")
		o["TransferProtocolType"] = strings.ToUpper(scheme)
	}
	return o, nil
}

// url is where the image in the drive came from.
func (x *system) url(image string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if u, ok := x.images[image]; ok {
		return u
	}
	return image
}

func (s *Service) insert(w http.ResponseWriter, r *http.Request, x *system, in object) error {
	url := text(in, "Image")
	if scheme, _, ok := strings.Cut(url, "://"); !ok || scheme != "http" && scheme != "https" {
		return refuse(http.StatusBadRequest, "ActionParameterValueFormatError", "The value for the parameter Image in the action InsertMedia is of a different format than the parameter can accept.")
	}
	before, err := x.Machine.Media(r.Context())
	if err != nil {
		return err
	}
	if before != "" {
		return refuse(http.StatusConflict, "ResourceInUse", "The change to the requested resource failed because the resource is in use: there is an image in the drive.")
	}
	image, err := s.fetch(r.Context(), url)
	if err != nil {
		return err
	}
	if err := x.Machine.Insert(r.Context(), image); err != nil {
		return err
	}
	now, err := x.Machine.Media(r.Context()) // the machine may keep it elsewhere
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.images = map[string]string{now: url}
	x.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) eject(w http.ResponseWriter, r *http.Request, x *system) error {
	image, err := x.Machine.Media(r.Context())
	if err == nil && image == "" {
		return refuse(http.StatusConflict, "NoOperation", "There is no image in the drive.")
	}
	if err == nil {
		err = x.Machine.Insert(r.Context(), "")
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
