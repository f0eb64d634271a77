package engine

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A wired machine has a BMC that speaks Redfish; its agent never comes.
type wired struct {
	bmc     *bmc.Controller
	service *redfish.Service
	target  bmc.Target
}

func newWired(t *testing.T, faults redfish.Faults) *wired {
	t.Helper()
	s, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(redfish.Options{
		Task: 200 * time.Millisecond, Faults: faults, Systems: []redfish.System{{ID: "1", Facts: redfish.Facts{Vendor: "Contoso", Model: "Rack 1U"}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &wired{service: s.Service, target: bmc.Target{Node: "n-1", Driver: fleet.DriverRedfish, Address: s.Addr(), Username: "admin", Password: "Secret123Secret1"}}
	w.connect()
	found, err := w.bmc.Probe(t.Context(), w.target)
	if err != nil {
		t.Fatal(err)
	}
	w.target = found.Use(w.target)
	return w
}

// connect is a new server's way to the BMC.
func (w *wired) connect() {
	w.bmc = bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 8 * time.Second, TaskEvery: 20 * time.Millisecond})
}

func (w *wired) Switch(ctx context.Context, _ fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	if o.Op.SetsBoot() {
		return fleet.Switched{}, nil
	}
	return w.bmc.Switch(ctx, w.target, o.Op)
}

func (w *wired) Examine(ctx context.Context, _ fleet.Node, all bool) (fleet.Checkup, error) {
	return w.bmc.Examine(ctx, w.target, all)
}

func (w *wired) ClearLog(ctx context.Context, _ fleet.Node) error {
	return w.bmc.ClearLog(ctx, w.target)
}

func (w *wired) BIOS(ctx context.Context, _ fleet.Node) (fleet.BIOS, error) {
	return w.bmc.BIOS(ctx, w.target)
}

func (w *wired) SetBIOS(ctx context.Context, _ fleet.Node, want map[string]string) error {
	return w.bmc.SetBIOS(ctx, w.target, want)
}

func (w *wired) Update(ctx context.Context, _ fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(int)) error {
	return w.bmc.Update(ctx, w.target, job, keep, tell)
}

// wiredWorld has one blank node of the model, in a pool that wants all of it.
func wiredWorld(policy fleet.SetupPolicy) fleet.World {
	return fleet.World{
		Site: fleet.Site{
			Stages:   []fleet.Stage{{Name: "prd"}},
			Profiles: []fleet.Profile{{Name: "p", Image: "debian-12", BIOS: []fleet.BIOSSettings{{Vendor: "contoso", Set: map[string]string{"SysProfile": "Performance", "FanOffset": "20"}}}}},
			Pools:    []fleet.Pool{{Name: "prd", Stage: "prd", Profile: "p", Cluster: fleet.NoCluster, Firmware: policy, BIOS: policy}},
			Firmware: []fleet.FirmwareTarget{
				{Vendor: "Contoso", Component: "BMC", Version: "3.0", URL: "http://10.0.0.1/bmc-3.0.bin"},
				{Model: "Rack 1U", Component: "BIOS", Version: "2.1", URL: "http://10.0.0.1/bios-2.1.bin"},
			},
		},
		Nodes: []fleet.Node{{
			ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Pool: "prd", Stage: "prd", Revision: 1, Approved: true,
			Inventory: fleet.Inventory{Vendor: "Contoso", Product: "Rack 1U", Disks: []fleet.Disk{{ID: "d", Serial: "d", Bytes: 8 << 30}}},
			BMC:       fleet.BMC{Address: "10.77.2.1", Driver: fleet.DriverRedfish, Username: "admin", SealedPassword: "x"},
		}},
	}
}

// serveWired runs an engine over it, until its stop is called.
func serveWired(t *testing.T, w *wired, s *memoryStore) (*Engine, func()) {
	t.Helper()
	r := &rack{}
	e := New(Options{
		Store: s, Power: w, Images: r, Seeds: r, Joiner: r, Closer: r,
		Setup: w, Updater: w, Examiner: w, CheckEvery: -1, AskEvery: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Started()
	return e, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// until waits until the node's part of the run is as f wants it.
func until(t *testing.T, e *Engine, id fleet.RunID, f func(fleet.RunNode) bool) fleet.RunNode {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		changed := e.Changed()
		run, err := e.GetRun(id)
		if err != nil {
			t.Fatal(err)
		}
		if n := run.Nodes[0]; f(n) || n.State.Over() {
			return n
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the run does not come so far: %+v", run.Nodes[0])
		}
	}
}

func booting(n fleet.RunNode) bool { return n.Phase == fleet.PhaseHello }

func (w *wired) check(t *testing.T, updates, resets int) {
	t.Helper()
	c, err := w.bmc.Examine(t.Context(), w.target, true)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range c.Hardware.Firmware {
		got[f.ID] = f.Version
	}
	b, err := w.bmc.BIOS(t.Context(), w.target)
	if err != nil {
		t.Fatal(err)
	}
	got["SysProfile"], got["FanOffset"] = b.Attributes["SysProfile"], b.Attributes["FanOffset"]
	if diff := cmp.Diff(map[string]string{"BMC": "3.0", "BIOS": "2.1", "SysProfile": "Performance", "FanOffset": "20"}, got); diff != "" {
		t.Errorf("the machine has (-want +got):\n%s", diff)
	}
	if n := w.service.Counts(); n.Updates != updates {
		t.Errorf("%d updates were begun, want %d", n.Updates, updates)
	} else if n.Resets > resets {
		t.Errorf("%d orders to change the power, want %d at most", n.Resets, resets)
	}
}

// A service that is one, with what goes wrong with them: the machine is as
// declared when it boots to be installed.
func TestARunSeesToARedfishMachine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults  redfish.Faults
		updates int
	}{
		"at once":                            {redfish.Faults{}, 2},
		"slowly":                             {redfish.Faults{SlowTask: 2 * time.Second}, 2},
		"from the next start on":             {redfish.Faults{UpdateWaits: true}, 2},
		"from then on, with forgotten tasks": {redfish.Faults{UpdateWaits: true, LosesTasks: true}, 2},
		"with answers that are lost":         {redfish.Faults{UpdateMute: true}, 2},
		"with tags and sessions only":        {redfish.Faults{NeedsETag: true, NoBasic: true, Sessions: 2}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWired(t, tt.faults)
			s := &memoryStore{world: wiredWorld(fleet.SetupDemand)}
			e, stop := serveWired(t, w, s)
			n := until(t, e, start(t, e).ID, booting)
			if n.State.Over() || n.Job != nil || len(n.Times) < 3 {
				t.Errorf("the node came to %+v", n)
			}
			stop()
			w.check(t, tt.updates, 2+2+2+2)
		})
	}
}

func TestWhatARedfishMachineCannotDoIsSaid(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		policy fleet.SetupPolicy
		faults redfish.Faults
		code   fleet.Code
		notes  int
	}{
		"without SimpleUpdate it fails":      {fleet.SetupDemand, redfish.Faults{NoUpdate: true}, fleet.CodeBMCUnsupported, 0},
		"without SimpleUpdate it may stay":   {fleet.SetupPossible, redfish.Faults{NoUpdate: true}, "", 2},
		"without settings it may stay":       {fleet.SetupPossible, redfish.Faults{NoPatch: true}, "", 1},
		"a task that fails is no such thing": {fleet.SetupPossible, redfish.Faults{UpdateFails: true}, fleet.CodeBMCRejected, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWired(t, tt.faults)
			e, stop := serveWired(t, w, &memoryStore{world: wiredWorld(tt.policy)})
			n := until(t, e, start(t, e).ID, booting)
			if n.Failure.Code != tt.code || len(n.Notes) != tt.notes {
				t.Errorf("failure %+v, notes %q; want %q, %d", n.Failure, n.Notes, tt.code, tt.notes)
			}
			stop()
		})
	}
}

// The server is killed while a task is under way, and in the moment in which the
// BMC is asked. The next one follows the task, and no image is started twice.
func TestATaskIsFollowedByTheNextServer(t *testing.T) {
	t.Parallel()
	tests := map[string]fleet.JobStage{
		"while it runs":                      fleet.JobRunning,
		"when nobody has heard which it is":  fleet.JobAsked,
		"when the machine was restarted":     fleet.JobRestarted,
		"when it is there and nobody looked": fleet.JobInstalled,
	}
	for name, stage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWired(t, redfish.Faults{SlowTask: time.Second, UpdateWaits: true})
			s := &memoryStore{world: wiredWorld(fleet.SetupDemand)}
			// From here on nothing is stored any more: the job stays as it was.
			s.mu.Lock()
			s.dieAt = func(n fleet.RunNode) bool { return n.Job != nil && n.Job.Component == "BIOS" && n.Job.Stage == stage }
			died := make(chan struct{})
			s.onCut = func() { close(died) }
			s.mu.Unlock()
			e, stop := serveWired(t, w, s)
			run := start(t, e)
			select {
			case <-died:
			case <-time.After(time.Minute):
				t.Fatal("the job never came so far")
			}
			// What the server did last has come to the BMC, and its answer was for nobody.
			heard := map[fleet.JobStage]redfish.Counts{fleet.JobAsked: {Updates: 2}, fleet.JobRestarted: {Resets: 3}}[stage]
			for i := 0; w.service.Counts().Updates < heard.Updates || w.service.Counts().Resets < heard.Resets; i++ {
				if <-time.After(10 * time.Millisecond); i > 3000 {
					t.Fatalf("the BMC was never told: %+v", w.service.Counts())
				}
			}
			stop()
			s.mu.Lock()
			s.dieAt, s.dead = nil, false
			s.mu.Unlock()
			w.connect()
			e, stop = serveWired(t, w, s)
			n := until(t, e, run.ID, booting)
			if n.State.Over() {
				t.Errorf("the node ended: %+v", n)
			}
			stop()
			w.check(t, 2, 2+2+2+2)
		})
	}
}
