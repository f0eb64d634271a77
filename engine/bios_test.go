package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A workshop is one machine whose BIOS settings and firmware can be changed.
// Both count from its next start on.
type workshop struct {
	*ward
	mu       sync.Mutex
	on       bool
	starts   int
	settings map[string]string
	pending  map[string]string
	deaf     bool              // takes settings and forgets them
	versions map[string]string // of firmware
	staged   map[string]string // from the next start on
	fails    string            // the component whose update fails
	updated  []string
	begun    []string // once for each task
	tasks    map[string]workTask

	unsupported bool // there is no SimpleUpdate
	forgets     bool // installs what counts from the next start on, and then does not
	silent      bool // its BMC says nothing about the machine
}

func newWorkshop() *workshop {
	w := &workshop{
		on: true, settings: map[string]string{"SysProfile": "PerfPerWatt", "Boot": "Uefi"}, pending: map[string]string{},
		versions: map[string]string{"BMC": "1.0", "BIOS": "1.0"}, staged: map[string]string{}, tasks: map[string]workTask{},
	}
	w.ward = newWard(func(fleet.Node, int) (fleet.Checkup, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.silent {
			return fleet.Checkup{}, &fleet.Error{Kind: fleet.Unreachable, Code: fleet.CodeBMCTimeout, Err: errors.New("the BMC does not answer")}
		}
		c := fleet.Checkup{Health: fleet.HealthOK, Hardware: fleet.Hardware{Vendor: "Contoso", Model: "Rack 1U"}}
		for _, id := range []string{"BMC", "BIOS"} {
			c.Hardware.Firmware = append(c.Hardware.Firmware, fleet.Firmware{ID: id, Version: w.versions[id], Updateable: true})
		}
		return c, nil
	})
	return w
}

// Switch implements Power.
func (w *workshop) Switch(_ context.Context, _ fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.Op != fleet.PowerStatus {
		w.on = true
		w.starts++
		maps.Copy(w.settings, w.pending)
		maps.Copy(w.versions, w.staged)
		clear(w.pending)
		clear(w.staged)
	}
	return fleet.Switched{After: map[bool]fleet.PowerState{true: fleet.PowerIsOn, false: fleet.PowerIsOff}[w.on]}, nil
}

// BIOS implements Setup.
func (w *workshop) BIOS(context.Context, fleet.Node) (fleet.BIOS, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fleet.BIOS{Attributes: maps.Clone(w.settings), Pending: maps.Clone(w.pending)}, nil
}

// SetBIOS implements Setup.
func (w *workshop) SetBIOS(_ context.Context, _ fleet.Node, want map[string]string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.deaf {
		maps.Copy(w.pending, want)
	}
	return nil
}

// Update implements Updater, with tasks that go on by themselves as a BMC's do.
// The BMC's own firmware counts at once.
func (w *workshop) Update(ctx context.Context, _ fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(percent int)) error {
	job, err := w.begin(job, keep)
	if err != nil {
		return err
	}
	tell(50)
	w.mu.Lock()
	task := w.tasks[job.Task]
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(task.ends)):
	}
	if task.fails {
		return errors.Join(&fleet.Error{Kind: fleet.Unreachable, Code: fleet.CodeBMCRejected, Err: errors.New("the update ended with Exception")}, keep(fleet.FirmwareJob{}))
	}
	w.finish(job.Task)
	return nil
}

// begin starts a task, unless the job has one.
func (w *workshop) begin(job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error) (fleet.FirmwareJob, error) {
	if w.unsupported {
		return job, &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCUnsupported, Err: errors.New("no SimpleUpdate")}
	}
	if job.Stage == fleet.JobNew {
		job.Stage = fleet.JobAsked
		w.mu.Lock()
		job.Before = slices.Sorted(maps.Keys(w.tasks))
		w.mu.Unlock()
		if err := keep(job); err != nil {
			return job, err
		}
	}
	if job.Stage == fleet.JobAsked {
		w.mu.Lock()
		for id := range w.tasks {
			if !slices.Contains(job.Before, id) {
				job.Task = id
			}
		}
		if job.Task == "" {
			job.Task = fmt.Sprintf("/task/%d", len(w.tasks)+1)
			w.tasks[job.Task] = workTask{job.Component, job.Want, time.Now().Add(time.Minute), w.fails == job.Component}
			w.begun = append(w.begun, job.Component)
		}
		w.mu.Unlock()
		job.Stage = fleet.JobRunning
	}
	return job, keep(job)
}

// A workTask is an update that is under way, or was.
type workTask struct {
	component, version string
	ends               time.Time
	fails              bool
}

func (w *workshop) finish(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	task := w.tasks[id]
	if task.ends.IsZero() || slices.Contains(w.updated, task.component) {
		return
	}
	w.updated = append(w.updated, task.component)
	if task.component == "BMC" {
		w.versions["BMC"] = task.version
		return
	}
	if !w.forgets {
		w.staged[task.component] = task.version
	}
}

// work runs an engine over the machine of a workshop, whose wires others may have.
func (w *workshop) work(t *testing.T, during func(e *Engine), others ...func(o *Options)) *memoryStore {
	t.Helper()
	s := &memoryStore{}
	s.world.Site = fleet.Site{
		Profiles: []fleet.Profile{{Name: "p", BIOS: []fleet.BIOSSettings{
			{Vendor: "contoso", Model: "1u", Set: map[string]string{"SysProfile": "Performance", "Boot": "Uefi"}},
			{Vendor: "acme", Set: map[string]string{"NoSuch": "1"}},
		}}},
		Pools: []fleet.Pool{{Name: "prd", Profile: "p"}},
		Firmware: []fleet.FirmwareTarget{
			{Vendor: "Contoso", Component: "bmc", Version: "2.0", URL: "http://10.0.0.1/bmc-2.0.bin"},
			{Model: "Rack 1U", Component: "BIOS", Version: "2.1", URL: "http://10.0.0.1/bios-2.1.bin"},
			{Vendor: "acme", Component: "GPU", Version: "9", URL: "http://10.0.0.1/gpu-9.bin"},
		},
	}
	s.world.Nodes = []fleet.Node{{
		ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Pool: "prd", Revision: 1,
		Inventory: fleet.Inventory{Vendor: "Contoso Ltd.", Product: "Rack 1U"},
		BMC:       fleet.BMC{Address: "10.77.2.1", Driver: fleet.DriverRedfish, Username: "admin", SealedPassword: "x"},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Store: s, Power: w, Setup: w, Updater: w, Examiner: w, Checkups: w, CheckEvery: -1}
	for _, other := range others {
		other(&o)
	}
	e := New(o)
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Started()
	during(e)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return s
}

func TestBIOSSettingsAreAppliedAndReadBack(t *testing.T) {
	tests := map[string]struct {
		spoil func(w *workshop)
		want  string // finding
	}{
		"on a machine that is on":            {func(*workshop) {}, ""},
		"on a machine that is off":           {func(w *workshop) { w.on = false }, ""},
		"in vain, when the BMC forgets them": {func(w *workshop) { w.deaf = true }, "SysProfile is PerfPerWatt, not Performance"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorkshop()
				tt.spoil(w)
				s := w.work(t, func(e *Engine) {
					_, changes, err := e.ApplyBIOS(t.Context(), "ada", "n-1", false)
					if err != nil || len(changes) != 1 || changes[0].Name != "SysProfile" {
						t.Errorf("ApplyBIOS = %+v, %v; want the one that differs", changes, err)
					}
					wait(30 * time.Minute)
				})
				found := ""
				if n := s.only(t); len(n.BMC.Findings) == 1 && n.BMC.Findings[0].Code == fleet.CodeBMCBIOS {
					found = n.BMC.Findings[0].Detail
				}
				if w.starts != 1 || found != tt.want {
					t.Errorf("%d starts, finding %q; want 1, %q", w.starts, found, tt.want)
				}
			})
		})
	}
}

func TestBIOSSettingsThatAreSoNeedNoRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		w.settings["SysProfile"] = "Performance"
		w.work(t, func(e *Engine) {
			if _, changes, err := e.ApplyBIOS(t.Context(), "ada", "n-1", false); err != nil || len(changes) != 0 || w.starts != 0 {
				t.Errorf("ApplyBIOS = %+v, %v, %d starts", changes, err, w.starts)
			}
			delete(w.settings, "SysProfile")
			if _, _, err := e.ApplyBIOS(t.Context(), "ada", "n-1", false); fleet.CodeOf(err) != fleet.CodeBMCBIOS || w.starts != 0 {
				t.Errorf("a setting that the machine does not have: %v, %d starts", err, w.starts)
			}
		})
	})
}

func TestFirmwareIsUpdatedInOrder(t *testing.T) {
	tests := map[string]struct {
		fails   string
		restart bool
		updated string
		states  string
		starts  int
	}{
		"with a restart":           {"", true, "BMC BIOS", "BMC done, BIOS done", 1},
		"without one":              {"", false, "BMC BIOS", "BMC done, BIOS restart needed", 0},
		"until one fails":          {"BMC", true, "", "BMC failed, BIOS differs", 0},
		"and the last one may too": {"BIOS", true, "BMC", "BMC done, BIOS failed", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorkshop()
				w.fails = tt.fails
				w.work(t, func(e *Engine) {
					if _, _, err := e.UpdateFirmware(t.Context(), "ada", "n-1", fleet.UpdateOptions{Restart: tt.restart}); err != nil {
						t.Fatal(err)
					}
					wait(10 * time.Second)
					if _, _, err := e.UpdateFirmware(t.Context(), "bob", "n-1", fleet.UpdateOptions{}); fleet.CodeOf(err) != fleet.CodeBMCBusy {
						t.Errorf("a second update at the same time: %v", err)
					}
					wait(time.Hour)
					_, all, err := e.Firmware("n-1")
					var states []string
					for _, u := range all {
						states = append(states, u.Component+" "+string(u.State))
					}
					if got := strings.Join(states, ", "); err != nil || got != tt.states {
						t.Errorf("states %q, %v; want %q", got, err, tt.states)
					}
				})
				if got := strings.Join(w.updated, " "); got != tt.updated || w.starts != tt.starts {
					t.Errorf("updated %q with %d starts; want %q, %d", got, w.starts, tt.updated, tt.starts)
				}
			})
		})
	}
}
