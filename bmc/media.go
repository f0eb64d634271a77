package bmc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A drive is a virtual one, into which a BMC puts an image that it fetches.
type drive struct {
	Path       string `json:"@odata.id"`
	ID         string `json:"Id"`
	MediaTypes []string
	Image      string
	ImageName  string
	Inserted   bool
	Actions    struct {
		Insert struct {
			Target string `json:"target"`
		} `json:"#VirtualMedia.InsertMedia"`
		Eject struct {
			Target string `json:"target"`
		} `json:"#VirtualMedia.EjectMedia"`
	}
}

// holds reports whether the image of a URL is in the drive. Some services show
// the name of the file alone.
func (d drive) holds(image string) bool {
	return d.Inserted && (d.Image == image || d.ImageName == path.Base(image) && strings.HasSuffix(d.Image, d.ImageName))
}

// drive returns the virtual CD drive of our system: one of the system's own,
// or else one of its BMC's.
func (r *redfish) drive(ctx context.Context) (drive, error) {
	system, err := r.systemPath(ctx)
	if err != nil {
		return drive{}, err
	}
	var s struct {
		ID    string `json:"Id"`
		Media link   `json:"VirtualMedia"`
	}
	if err := r.get(ctx, system, &s); err != nil {
		return drive{}, err
	}
	collection := localPath(s.Media.Path)
	if collection == "" {
		manager, err := r.managerPath(ctx)
		if err != nil {
			return drive{}, err
		}
		var m struct {
			Media link `json:"VirtualMedia"`
		}
		if err := r.get(ctx, manager, &m); err != nil {
			return drive{}, err
		}
		collection = localPath(m.Media.Path)
	}
	if collection == "" {
		return drive{}, ErrNoMedia
	}
	return r.chooseDrive(ctx, collection, s.ID)
}

// chooseDrive finds the drive for CDs. Where one BMC has them for several
// systems, their names tell.
func (r *redfish) chooseDrive(ctx context.Context, collection, system string) (drive, error) {
	paths, err := r.members(ctx, collection)
	if err != nil {
		return drive{}, err
	}
	var discs []drive
	for _, p := range paths {
		var d drive
		if err := r.get(ctx, p, &d); err != nil {
			return d, err
		}
		d.Path = p
		if slices.Contains(d.MediaTypes, "CD") || slices.Contains(d.MediaTypes, "DVD") {
			discs = append(discs, d)
		}
	}
	if i := slices.IndexFunc(discs, func(d drive) bool { return strings.HasSuffix(d.ID, "-"+system) }); i >= 0 {
		return discs[i], nil
	}
	if len(discs) == 0 {
		return drive{}, ErrNoMedia
	}
	return discs[0], nil
}

// insert has the BMC fetch an image. Old services have no action for that.
func (r *redfish) insert(ctx context.Context, d drive, image string) error {
	target := localPath(d.Actions.Insert.Target)
	if target == "" {
		return r.patch(ctx, d.Path, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true})
	}
	_, err := r.post(ctx, target, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true})
	return err
}

func (r *redfish) eject(ctx context.Context, d drive) error {
	target := localPath(d.Actions.Eject.Target)
	if target == "" {
		return r.patch(ctx, d.Path, map[string]any{"Image": nil, "Inserted": false})
	}
	_, err := r.post(ctx, target, map[string]any{})
	return err
}

// InsertMedia puts the image of a URL into the virtual CD drive of a machine, in
// place of what is there, and reads back that it is in.
func (c *Controller) InsertMedia(ctx context.Context, t Target, image string) error {
	const op = "insert virtual media of"
	u, err := url.Parse(image)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return invalid(op, t, errors.New("an image that has no URL"))
	}
	return c.mediaStep(ctx, op, t, func(ctx context.Context, r *redfish, d drive, order bool) (bool, error) {
		switch {
		case d.holds(image):
			return true, nil
		case !order:
			return false, nil
		case d.Inserted:
			if err := r.eject(ctx, d); err != nil {
				return false, err
			}
		}
		if err := r.insert(ctx, d, image); err != nil {
			return false, err
		}
		now, err := r.drive(ctx)
		return err == nil && now.holds(image), err
	})
}

// EjectMedia takes whatever is in the virtual CD drive of a machine out.
func (c *Controller) EjectMedia(ctx context.Context, t Target) error {
	return c.mediaStep(ctx, "eject virtual media of", t, func(ctx context.Context, r *redfish, d drive, order bool) (bool, error) {
		if !d.Inserted || !order {
			return !d.Inserted, nil
		}
		if err := r.eject(ctx, d); err != nil {
			return false, err
		}
		now, err := r.drive(ctx)
		return err == nil && !now.Inserted, err
	})
}

// mediaStep changes what is in the drive until it is so.
func (c *Controller) mediaStep(ctx context.Context, op string, t Target, f func(context.Context, *redfish, drive, bool) (bool, error)) error {
	if !t.Driver.ShowsMedia() {
		return trouble(op, t, fmt.Errorf("%w that driver %q can reach", ErrNoMedia, t.Driver))
	}
	t.Driver = fleet.DriverRedfish // vendors' drivers have nothing of their own for it
	return c.change(ctx, op, t, func(ctx context.Context) error {
		return c.converge(ctx, t, func(ctx context.Context, l line, order bool) (bool, error) {
			s, ok := l.(*system)
			if !ok {
				return false, ErrNoMedia
			}
			d, err := s.drive(ctx)
			if err != nil {
				return false, err
			}
			return f(ctx, s.redfish, d, order)
		})
	})
}

func (k *checkup) media(ctx context.Context) outcome {
	d, err := talkRedfish(ctx, k.c, k.t, func(ctx context.Context, r *redfish) (drive, error) { return r.drive(ctx) })
	switch {
	case errors.Is(err, ErrUnsupported):
		return k.unable("boot "+k.t.name()+" by PXE; some BMCs need a licence for virtual media", err)
	case err != nil:
		return k.failed(err)
	case d.Inserted:
		// The folders of its URL are not shown: those of images of ours are secret.
		return fine("%s, with %s in it", d.Path, path.Base(d.Image))
	}
	return fine("%s, empty", d.Path)
}
