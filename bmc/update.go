package bmc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// How long an update may take, and how often it is asked after. The BMC may
// restart in between.
const (
	updateWithin = 45 * time.Minute
	updateEvery  = 5 * time.Second
)

// Update has a BMC fetch an image and install it for one component. It returns
// when the BMC's task is over; tell learns how far it is. Nobody else switches
// the machine meanwhile.
func (c *Controller) Update(ctx context.Context, t Target, change fleet.FirmwareChange, tell func(percent int)) error {
	const op = "update firmware of"
	return c.change(ctx, op, t, func(ctx context.Context) error {
		if !t.Driver.Web() {
			return fmt.Errorf("%w: update firmware, by driver %q", ErrUnsupported, t.Driver)
		}
		ctx, cancel := context.WithTimeoutCause(ctx, updateWithin, fmt.Errorf("%w within %s", ErrNoEffect, updateWithin))
		defer cancel()
		task, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (string, error) { return r.startUpdate(ctx, change) })
		if err != nil || task == "" {
			return err
		}
		for {
			if err := pause(ctx, updateEvery); err != nil {
				return err
			}
			over, err := c.askTask(ctx, t, task, tell)
			if over || err != nil {
				return err
			}
		}
	})
}

// startUpdate calls SimpleUpdate, and returns where the task is; "" when the
// service does not say.
func (r *redfish) startUpdate(ctx context.Context, change fleet.FirmwareChange) (string, error) {
	var service struct {
		FirmwareInventory link
		Actions           struct {
			Simple struct {
				Target string `json:"target"`
			} `json:"#UpdateService.SimpleUpdate"`
		}
	}
	if err := r.get(ctx, rootPath+"UpdateService", &service); err != nil {
		return "", err
	}
	target := localPath(service.Actions.Simple.Target)
	if target == "" {
		return "", fmt.Errorf("%w: update firmware by SimpleUpdate", ErrUnsupported)
	}
	component, err := r.component(ctx, localPath(service.FirmwareInventory.Path), change.Component)
	if err != nil {
		return "", err
	}
	scheme, _, _ := strings.Cut(change.URL, ":")
	return r.post(ctx, target, map[string]any{
		"ImageURI": change.URL, "TransferProtocol": strings.ToUpper(scheme), "Targets": []string{component},
	})
}

// component returns the path of a component that can be updated.
func (r *redfish) component(ctx context.Context, inventory, id string) (string, error) {
	if inventory == "" {
		return "", fmt.Errorf("%w: list its firmware", ErrUnsupported)
	}
	paths, err := r.membersUpTo(ctx, inventory, fleet.MostFirmware)
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		var f struct {
			ID         text `json:"Id"`
			Name       text
			Updateable bool
		}
		if err := r.get(ctx, path, &f); err != nil && !optional(ctx, err) {
			return "", err
		}
		if !strings.EqualFold(string(f.ID), id) && !strings.EqualFold(string(f.Name), id) {
			continue
		}
		if !f.Updateable {
			return "", fmt.Errorf("%w: %s cannot be updated", ErrUnsupported, id)
		}
		return path, nil
	}
	return "", fmt.Errorf("%w: it has no component %q", ErrUnsupported, id)
}

// askTask reports whether a task is over. A BMC that restarts does not answer
// for a while, and may have forgotten the task then.
func (c *Controller) askTask(ctx context.Context, t Target, path string, tell func(percent int)) (bool, error) {
	var task struct {
		TaskState       text
		PercentComplete number
		Messages        []struct{ Message text }
	}
	_, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (none struct{}, err error) {
		return none, r.get(ctx, path, &task)
	})
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	if status, ok := errors.AsType[*statusError](err); ok && (status.status == 404 || status.status == 410) {
		return true, nil // whoever waits looks at the version
	}
	if errors.Is(err, ErrPin) {
		return true, err
	}
	if err != nil {
		return false, nil //nolint:nilerr // it restarts; the deadline comes
	}
	tell(max(0, min(100, int(task.PercentComplete))))
	switch task.TaskState {
	case "Completed":
		tell(100)
		return true, nil
	case "Exception", "Killed", "Cancelled", "Interrupted":
		why := []string{string(task.TaskState)}
		for _, m := range task.Messages[:min(len(task.Messages), 8)] {
			why = append(why, string(m.Message))
		}
		return true, fmt.Errorf("%w: the update ended with %s", ErrRejected, fleet.CleanText(strings.Join(why, ": ")))
	}
	return false, nil
}
