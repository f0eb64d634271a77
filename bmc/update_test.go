package bmc_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// following asks after tasks more often than is polite.
func following() *bmc.Controller {
	return bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 8 * time.Second, TaskEvery: 20 * time.Millisecond})
}

// A ledger keeps a job as a store does.
type ledger struct {
	kept   []fleet.JobStage
	job    fleet.FirmwareJob
	broken fleet.JobStage // cannot be stored any more
	last   fleet.JobStage // is stored, and then the server is gone
}

var errFull = errors.New("the disk is full")

func (l *ledger) keep(job fleet.FirmwareJob) error {
	if l.broken != fleet.JobNew && job.Stage == l.broken {
		return errFull
	}
	l.job = job
	l.kept = append(l.kept, job.Stage)
	if l.last != fleet.JobNew && job.Stage == l.last {
		return errFull
	}
	return nil
}

func newJob(component, url string) fleet.FirmwareJob {
	return fleet.FirmwareJob{FirmwareChange: fleet.FirmwareChange{Component: component, URL: url}}
}

func nobody(int) {}

func versionsOf(t *testing.T, target bmc.Target) map[string]string {
	t.Helper()
	got, err := quick().Examine(t.Context(), target, true)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, f := range got.Hardware.Firmware {
		versions[f.ID] = f.Version
	}
	return versions
}

func TestFirmwareIsUpdatedByATask(t *testing.T) {
	t.Parallel()
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/bios-2.1.bin" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(images.Close)
	target, _ := startRedfish(t, redfish.Options{Task: 100 * time.Millisecond, Faults: redfish.Faults{FetchesURLs: true}})
	target = probed(t, target)
	ipmi := startSim(t)
	ipmi.Driver = fleet.DriverIPMI
	tests := map[string]struct {
		target bmc.Target
		job    fleet.FirmwareJob
		want   error
	}{
		"to the version of the image":   {target, newJob("bios", images.URL+"/bios-2.1.bin"), nil},
		"not when the image is missing": {target, newJob("BMC", images.URL+"/bmc-3.0.bin"), bmc.ErrRejected},
		"not of what is not there":      {target, newJob("GPU", images.URL+"/gpu-1.bin"), bmc.ErrUnsupported},
		"not by IPMI":                   {ipmi, newJob("BIOS", images.URL+"/bios-2.1.bin"), bmc.ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			told := -1
			l := &ledger{}
			err := following().Update(t.Context(), tt.target, tt.job, l.keep, func(percent int) { told = percent })
			if !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
			if err == nil && (told != 100 || l.job.Stage != fleet.JobRunning || l.job.Task == "") {
				t.Errorf("told %d %%, kept %+v; want 100 and the task", told, l.job)
			}
			if err != nil && l.job.Stage != fleet.JobNew {
				t.Errorf("a job that has failed is kept: %+v", l.job)
			}
		})
	}
	if versions := versionsOf(t, target); versions["BIOS"] != "2.1" || versions["BMC"] != "1.0" {
		t.Errorf("versions %v; want BIOS 2.1, BMC 1.0", versions)
	}
}

// Whatever happens to the answer, or to the server, an image is started once.
func TestAnUpdateIsGoneOnWithAndNotBegunAgain(t *testing.T) {
	t.Parallel()
	const image = "http://10.0.0.1/bios-2.1.bin"
	tests := map[string]struct {
		faults  redfish.Faults
		broken  fleet.JobStage // the first time
		first   error
		age     time.Duration // of the job when it is gone on with
		forgot  bool          // the BMC has restarted since: it lists nothing of before
		second  error
		updates int
		version string
	}{
		"when its answer was lost":                  {redfish.Faults{UpdateMute: true}, "", bmc.ErrRejected, 0, false, nil, 1, "2.1"},
		"when its task could not be kept":           {redfish.Faults{}, fleet.JobRunning, errFull, 0, false, nil, 1, "2.1"},
		"when the BMC was not asked at all":         {redfish.Faults{}, fleet.JobAsked, errFull, 0, false, nil, 1, "2.1"},
		"when the task is over by then":             {redfish.Faults{UpdateMute: true}, "", bmc.ErrRejected, time.Hour, false, nil, 1, "2.1"},
		"but not where it may have been forgotten":  {redfish.Faults{UpdateMute: true, LosesTasks: true}, "", bmc.ErrRejected, time.Hour, true, bmc.ErrUnclear, 1, "2.1"},
		"and nobody guesses where tasks are hidden": {redfish.Faults{NoTasks: true}, fleet.JobRunning, errFull, 0, false, bmc.ErrUnclear, 1, "2.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{Task: 300 * time.Millisecond, Faults: tt.faults})
			target = probed(t, target)
			l := &ledger{broken: tt.broken}
			if err := following().Update(t.Context(), target, newJob("BIOS", image), l.keep, nobody); !errors.Is(err, tt.first) {
				t.Errorf("Update = %v, want %v", err, tt.first)
			}
			for tt.age > 0 && versionsOf(t, target)["BIOS"] != "2.1" {
				<-time.After(20 * time.Millisecond)
			}
			s.SetFaults(redfish.Faults{NoTasks: tt.faults.NoTasks})
			job := l.job
			if job.Stage == fleet.JobNew {
				job = newJob("BIOS", image)
			}
			job.At = job.At.Add(-tt.age)
			if tt.forgot {
				job.Before = append(job.Before, "/redfish/v1/TaskService/Tasks/0")
			}
			l = &ledger{}
			if err := following().Update(t.Context(), target, job, l.keep, nobody); !errors.Is(err, tt.second) {
				t.Errorf("gone on with: %v, want %v", err, tt.second)
			}
			if got := s.Counts().Updates; got != tt.updates {
				t.Errorf("%d updates begun, want %d", got, tt.updates)
			}
			if tt.second == nil && versionsOf(t, target)["BIOS"] != tt.version {
				t.Errorf("version %s, want %s", versionsOf(t, target)["BIOS"], tt.version)
			}
		})
	}
}

func TestAnUpdateThatWasNeverBegunIsBegun(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{Task: 50 * time.Millisecond})
	target = probed(t, target)
	l := &ledger{last: fleet.JobAsked}
	if err := following().Update(t.Context(), target, newJob("BIOS", "http://10.0.0.1/bios-2.1.bin"), l.keep, nobody); !errors.Is(err, errFull) || s.Counts().Updates != 0 {
		t.Fatalf("Update = %v, %d begun; want none", err, s.Counts().Updates)
	}
	job := l.job
	job.At = job.At.Add(-time.Hour)
	if err := following().Update(t.Context(), target, job, (&ledger{}).keep, nobody); err != nil || s.Counts().Updates != 1 {
		t.Errorf("gone on with: %v, %d begun; want one", err, s.Counts().Updates)
	}
}

func TestWhoFollowsAnUpdateDoesNotKnockForEver(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{Task: time.Hour})
	target = probed(t, target)
	l := &ledger{}
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- following().Update(t.Context(), target, newJob("BIOS", "http://10.0.0.1/bios-2.1.bin"), func(job fleet.FirmwareJob) error {
			err := l.keep(job)
			if job.Stage == fleet.JobRunning {
				close(begun)
			}
			return err
		}, nobody)
	}()
	<-begun
	if err := quick().ChangePassword(t.Context(), target, "Another123Another"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, bmc.ErrLogin) || s.Counts().Refused != 2 {
		t.Errorf("Update = %v after %d logins refused, want %v after 2", err, s.Counts().Refused, bmc.ErrLogin)
	}
	if l.job.Stage != fleet.JobRunning || l.job.Task == "" {
		t.Errorf("kept %+v, want the task: it goes on", l.job)
	}
}

func TestWhatABMCCannotUpdateIsSaid(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults redfish.Faults
		want   error
	}{
		"without SimpleUpdate":           {redfish.Faults{NoUpdate: true}, bmc.ErrUnsupported},
		"with a task that fails":         {redfish.Faults{UpdateFails: true}, bmc.ErrRejected},
		"with a task that is forgotten":  {redfish.Faults{LosesTasks: true}, nil},
		"with a task that is not named":  {redfish.Faults{NoTasks: true}, nil},
		"with a version that waits":      {redfish.Faults{UpdateWaits: true}, nil},
		"with an answer that never came": {redfish.Faults{UpdateMute: true}, bmc.ErrRejected},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := startRedfish(t, redfish.Options{Task: 50 * time.Millisecond, Faults: tt.faults})
			l := &ledger{}
			err := following().Update(t.Context(), probed(t, target), newJob("BIOS", "http://10.0.0.1/bios-2.1.bin"), l.keep, nobody)
			if !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestATaskOfAnotherImageIsNotOurs(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{Task: time.Hour})
	target = probed(t, target)
	l := &ledger{broken: fleet.JobRunning} // somebody else's, begun meanwhile
	if err := following().Update(t.Context(), target, newJob("BMC", "http://10.0.0.1/bmc-3.0.bin"), l.keep, nobody); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	s.SetFaults(redfish.Faults{UpdateFails: true})
	job := newJob("BIOS", "http://10.0.0.1/bios-2.1.bin")
	job.Stage, job.Listed, job.At = fleet.JobAsked, true, time.Now().Add(-time.Hour)
	l = &ledger{broken: fleet.JobRunning}
	if err := following().Update(t.Context(), target, job, l.keep, nobody); !errors.Is(err, errFull) || s.Counts().Updates != 2 {
		t.Errorf("Update = %v, %d begun; want our own to be the second", err, s.Counts().Updates)
	}
}
