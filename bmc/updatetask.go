package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A simpleUpdate is a call of Redfish's action of that name.
type simpleUpdate struct {
	target string
	body   any
}

// simpleUpdate is the call that makes a change, if the service offers it.
func (r *redfish) simpleUpdate(ctx context.Context, change fleet.FirmwareChange) (call simpleUpdate, err error) {
	var service struct {
		FirmwareInventory link
		Actions           struct {
			Simple struct {
				Target string `json:"target"`
			} `json:"#UpdateService.SimpleUpdate"`
		}
	}
	if err := r.get(ctx, rootPath+"UpdateService", &service); err != nil {
		return call, err
	}
	if call.target = localPath(service.Actions.Simple.Target); call.target == "" {
		return call, fmt.Errorf("%w: update firmware by SimpleUpdate", ErrUnsupported)
	}
	component, err := r.component(ctx, localPath(service.FirmwareInventory.Path), change.Component)
	if err != nil {
		return call, err
	}
	scheme, _, _ := strings.Cut(change.URL, ":")
	call.body = map[string]any{"ImageURI": change.URL, "TransferProtocol": strings.ToUpper(scheme), "Targets": []string{component}}
	return call, nil
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

// Limits of what is looked at of a service's tasks, and kept.
const (
	mostNewTasks    = 16
	longestTaskPath = 256
)

// tasks returns where a service's tasks are.
func (r *redfish) tasks(ctx context.Context) ([]string, error) {
	var root struct{ Tasks link }
	if err := r.get(ctx, rootPath, &root); err != nil {
		return nil, err
	}
	var service struct{ Tasks link }
	path := localPath(root.Tasks.Path)
	if path == "" {
		return nil, fmt.Errorf("%w: list tasks", ErrUnsupported)
	}
	if err := r.get(ctx, path, &service); err != nil {
		return nil, err
	}
	if path = localPath(service.Tasks.Path); path == "" {
		return nil, fmt.Errorf("%w: list tasks", ErrUnsupported)
	}
	paths, err := r.members(ctx, path)
	return slices.DeleteFunc(paths, func(p string) bool { return p == "" || len(p) > longestTaskPath }), err
}

// A sightedTask is where the task of a job is; "" when there is none. It may be
// one of those that the service has forgotten, as it has others of that time.
type sightedTask struct {
	path   string
	forgot bool
}

// newTask returns the task of a job: one that was not there before it, and is
// about no other image, as far as the service says.
func (r *redfish) newTask(ctx context.Context, job fleet.FirmwareJob) (seen sightedTask, err error) {
	paths, err := r.tasks(ctx)
	if err != nil {
		return seen, err
	}
	seen.forgot = slices.ContainsFunc(job.Before, func(p string) bool { return !slices.Contains(paths, p) })
	paths = slices.DeleteFunc(paths, func(p string) bool { return slices.Contains(job.Before, p) })
	for _, at := range paths[max(0, len(paths)-mostNewTasks):] {
		var task struct{ Payload taskPayload }
		if err := r.get(ctx, at, &task); err != nil && !optional(ctx, err) {
			return seen, err
		}
		if task.Payload.mayBe(job.URL) {
			return sightedTask{path: at}, nil
		}
	}
	return seen, nil
}

// A taskPayload is the request that made a task, where a service tells that.
type taskPayload struct {
	TargetURI text
	JSONBody  json.RawMessage
}

// mayBe reports whether it may be the request to install an image. Services
// escape URLs in ways of their own, so that the file's name has to do.
func (p taskPayload) mayBe(image string) bool {
	if p.TargetURI != "" && !strings.Contains(string(p.TargetURI), "SimpleUpdate") {
		return false
	}
	u, err := url.Parse(image)
	return len(p.JSONBody) < len(`"{}"`)+1 || err != nil || strings.Contains(string(p.JSONBody), path.Base(u.Path))
}

// askTask reports whether a task is over. A BMC that restarts does not answer
// for a while, and may have forgotten the task then.
func (c *Controller) askTask(ctx context.Context, t Target, path string, tell func(percent int)) (bool, error) {
	var task struct {
		TaskState       text
		PercentComplete number
		Messages        []struct{ Message phrase }
	}
	why, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (why []string, err error) {
		err = r.get(ctx, path, &task)
		for _, m := range task.Messages[:min(len(task.Messages), 8)] {
			why = append(why, r.target.newVeil().told(string(m.Message)))
		}
		return why, err
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
	if errors.Is(err, ErrLogin) {
		return false, err
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
		said := strings.Join(append([]string{string(task.TaskState)}, why...), ": ")
		return true, fmt.Errorf("%w: the update ended with %s", ErrRejected, fleet.CleanText(said))
	}
	return false, nil
}
