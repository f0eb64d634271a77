package redfish

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A component is something with firmware.
type component struct {
	id, version string
	next        string // from the next start on; "" when there is no other
}

// A task is an update that is under way, or was.
type task struct {
	id, state, message, image string
}

const (
	inventory = "/redfish/v1/UpdateService/FirmwareInventory"
	tasks     = "/redfish/v1/TaskService/Tasks"
	manyTasks = 100
)

func (s *Service) updateResources() map[string]resource {
	const service = "/redfish/v1/UpdateService"
	const update = service + "/Actions/UpdateService.SimpleUpdate"
	return map[string]resource{
		service: {get: func(*http.Request) (object, error) {
			actions := object{}
			if !s.Faults().NoUpdate {
				actions["#UpdateService.SimpleUpdate"] = object{
					"target": update, "TransferProtocol@Redfish.AllowableValues": []string{"HTTP", "HTTPS"},
				}
			}
			return item(service, "UpdateService.v1_14_0.UpdateService", "UpdateService", "Update Service", object{
				"ServiceEnabled": true, "FirmwareInventory": link(inventory), "Status": fine(), "Actions": actions,
			}), nil
		}},
		update:                     {post: s.update},
		inventory:                  {get: s.listFirmware},
		inventory + "/{component}": {get: s.showFirmware},
	}
}

func (s *Service) listFirmware(*http.Request) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var paths []string
	for _, c := range s.firmware {
		paths = append(paths, inventory+"/"+c.id)
	}
	return list(inventory, "SoftwareInventoryCollection", "Firmware Inventory", paths), nil
}

func (s *Service) showFirmware(r *http.Request) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.firmware {
		if c.id == r.PathValue("component") {
			return item(inventory+"/"+c.id, "SoftwareInventory.v1_10_2.SoftwareInventory", c.id, c.id+" firmware", object{
				"Version": c.version, "Updateable": true, "SoftwareId": c.id, "Manufacturer": s.o.Vendor, "Status": fine(),
			}), nil
		}
	}
	return nil, notFound(r.URL.Path)
}

// versionOf is the version of a component after all updates.
func (s *Service) versionOf(id, otherwise string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.firmware {
		if c.id == id {
			return c.version
		}
	}
	return otherwise
}

// update begins an update. The version of an image is what its name has
// between the last dash and the extension: bios-2.1.bin. Without a target the
// name's beginning says which component it is for.
func (s *Service) update(w http.ResponseWriter, r *http.Request, in object) error {
	url := text(in, "ImageURI")
	faults := s.Faults()
	if faults.NoUpdate {
		return notFound(r.URL.Path)
	}
	name := strings.TrimSuffix(path.Base(url), path.Ext(url))
	dash := strings.LastIndexByte(name, '-')
	if !strings.Contains(url, "://") || dash < 1 {
		return refuse(http.StatusBadRequest, "ActionParameterValueFormatError", "The value for the parameter ImageURI in the action SimpleUpdate is of a different format than the parameter can accept.")
	}
	wanted, version := name[:dash], name[dash+1:]
	if targets, ok := in["Targets"].([]any); ok && len(targets) > 0 {
		target, _ := targets[0].(string)
		wanted = path.Base(target)
	}
	s.mu.Lock()
	i := slices.IndexFunc(s.firmware, func(c *component) bool { return strings.EqualFold(c.id, wanted) })
	if i < 0 {
		s.mu.Unlock()
		return refuse(http.StatusBadRequest, "ActionParameterValueNotInList", "There is no component "+wanted+" to be updated.")
	}
	c := s.firmware[i]
	s.serial++
	s.counts.Updates++
	t := &task{id: strconv.Itoa(s.serial), state: "Running", message: "The update is under way.", image: url}
	s.tasks = append(s.tasks, t)
	if len(s.tasks) > manyTasks {
		s.tasks = slices.Delete(s.tasks, 0, 1)
	}
	answer := t.show()
	s.mu.Unlock()
	s.later(s.o.Task+faults.SlowTask, func(ctx context.Context) { s.install(ctx, c, t, url, version) })
	switch {
	case faults.UpdateMute:
		cut(w)
	case faults.NoTasks:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Location", tasks+"/"+t.id)
		write(w, http.StatusAccepted, answer)
	}
	return nil
}

// cut ends the connection instead of an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// startFirmware is a start of the machine: what was waiting for it counts.
func (s *Service) startFirmware() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.firmware {
		if c.next != "" {
			c.version, c.next = c.next, ""
		}
	}
}

func (s *Service) install(ctx context.Context, c *component, t *task, url, version string) {
	var err error
	faults := s.Faults()
	switch {
	case faults.UpdateFails:
		err = errors.New("the image is damaged")
	case faults.FetchesURLs:
		err = s.reach(ctx, url)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		t.state, t.message = "Exception", err.Error()
		return
	case faults.UpdateWaits:
		c.next = version
	default:
		c.version = version
	}
	t.state, t.message = "Completed", "The update is done."
	if faults.LosesTasks {
		s.tasks = slices.DeleteFunc(s.tasks, func(x *task) bool { return x == t })
	}
}

func (t *task) show() object {
	health := map[string]string{"Exception": "Critical"}[t.state]
	if health == "" {
		health = "OK"
	}
	percent := map[string]int{"Completed": 100, "Exception": 100}[t.state]
	return item(tasks+"/"+t.id, "Task.v1_7_4.Task", t.id, "Update", object{
		"TaskState": t.state, "TaskStatus": health, "PercentComplete": percent, "Messages": []any{object{"Message": t.message}},
		"Payload": object{
			"HttpOperation": "POST", "TargetUri": "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate",
			"JsonBody": `{"ImageURI":"` + t.image + `"}`,
		},
	})
}

func (s *Service) taskResources() map[string]resource {
	return map[string]resource{
		"/redfish/v1/TaskService": {get: func(*http.Request) (object, error) {
			return item("/redfish/v1/TaskService", "TaskService.v1_2_1.TaskService", "TaskService", "Task Service", object{
				"ServiceEnabled": true, "Tasks": link(tasks), "Status": fine(),
			}), nil
		}},
		tasks: {get: func(r *http.Request) (object, error) {
			if s.Faults().NoTasks {
				return nil, notFound(r.URL.Path)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			var paths []string
			for _, t := range s.tasks {
				paths = append(paths, tasks+"/"+t.id)
			}
			return list(tasks, "TaskCollection", "Tasks", paths), nil
		}},
		tasks + "/{task}": {get: func(r *http.Request) (object, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, t := range s.tasks {
				if t.id == r.PathValue("task") && !s.faults.NoTasks {
					return t.show(), nil
				}
			}
			return nil, notFound(r.URL.Path)
		}},
	}
}
