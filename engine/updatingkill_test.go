package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A hiddenShop is a workshop whose BMC installs for ten minutes, and has no tasks.
type hiddenShop struct {
	*workshop
	flashEnds time.Time
	asked     int
	during    int // orders to switch the machine meanwhile
}

// Update implements Updater.
func (h *hiddenShop) Update(_ context.Context, _ fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, _ func(int)) error {
	if job.Stage != fleet.JobNew && job.Stage != fleet.JobAsked {
		return nil
	}
	h.asked++
	h.flashEnds = time.Now().Add(10 * time.Minute)
	job.Stage = fleet.JobAsked
	if err := keep(job); err != nil {
		return err
	}
	job.Stage = fleet.JobRunning
	return keep(job)
}

// Switch implements Power.
func (h *hiddenShop) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	if o.Op != fleet.PowerStatus && time.Now().Before(h.flashEnds) {
		h.during++
	}
	return h.workshop.Switch(ctx, n, o)
}

func (h *hiddenShop) serve(t *testing.T, s *memoryStore) (e *Engine, stop func()) {
	t.Helper()
	r := &rack{}
	e = New(Options{Store: s, Power: h, Images: r, Seeds: r, Joiner: r, Closer: r, Setup: h, Updater: h, Examiner: h, CheckEvery: -1})
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

// biosWorld has one machine, whose BIOS gets another version.
func biosWorld() fleet.World {
	w := wiredWorld(fleet.SetupDemand)
	w.Site.Firmware = w.Site.Firmware[1:]
	w.Site.Pools[0].BIOS = ""
	return w
}

func TestAMachineIsNotSwitchedWhileItsFirmwareIsWrittenUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hiddenShop{workshop: newWorkshop()}
		s := &memoryStore{world: biosWorld()}
		e, stop := h.serve(t, s)
		start(t, e)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // fake time: synctest
		stop()
		_, stop = h.serve(t, s)
		time.Sleep(9 * time.Minute) //nolint:forbidigo // fake time: synctest
		if h.asked != 1 || h.during != 0 {
			t.Errorf("after a restart of the server: asked %d times, want once; switched %d times while it was written", h.asked, h.during)
		}
		stop()
		synctest.Wait()
	})
}

func TestAnImageIsNotStartedTwiceWhereItsVersionIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hiddenShop{workshop: newWorkshop()}
		s := &memoryStore{world: biosWorld()}
		died := make(chan struct{})
		s.dieAt = func(n fleet.RunNode) bool { return n.Job != nil && n.Job.Stage == fleet.JobAsked }
		s.onCut = func() { close(died) }
		e, stop := h.serve(t, s)
		start(t, e)
		<-died
		stop()
		s.mu.Lock()
		s.dieAt, s.dead = nil, false
		s.mu.Unlock()
		asked := h.asked
		h.flashEnds = time.Time{}
		h.mu.Lock()
		h.versions["BIOS"] = "2.1" // it did what it was asked for, and has forgotten that
		h.mu.Unlock()
		e, stop = h.serve(t, s)
		time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
		if job := e.Runs()[0].Nodes[0].Job; h.asked != asked || job != nil {
			t.Errorf("asked %d times more; left of it: %+v", h.asked-asked, job)
		}
		stop()
		synctest.Wait()
	})
}

// A movingShop is a workshop whose BMC gets another password while it installs.
type movingShop struct {
	*hiddenShop
	change func()
	orders []string // with which password
	asked  []string
}

// Update implements Updater.
func (m *movingShop) Update(_ context.Context, n fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, _ func(int)) error {
	m.orders = append(m.orders, n.BMC.SealedPassword)
	if n.BMC.SealedPassword == "new" {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.versions["BIOS"] = job.Want
		return nil
	}
	job.Stage, job.Task = fleet.JobRunning, "/redfish/v1/TaskService/Tasks/1"
	if err := keep(job); err != nil {
		return err
	}
	m.change()
	return &fleet.Error{Kind: fleet.Denied, Code: fleet.CodeBMCLogin, Err: errors.New("wrong password")}
}

// Examine implements Examiner.
func (m *movingShop) Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	m.asked = append(m.asked, n.BMC.SealedPassword)
	return m.hiddenShop.Examine(ctx, n, all)
}

func TestAnUpdateGoesOnWithTheNewPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &movingShop{hiddenShop: &hiddenShop{workshop: newWorkshop()}}
		s := &memoryStore{world: biosWorld()}
		r := &rack{}
		e := New(Options{Store: s, Power: m, Images: r, Seeds: r, Joiner: r, Closer: r, Setup: m, Updater: m, Examiner: m, CheckEvery: -1})
		m.change = func() {
			e.refine(t.Context(), "n-1", func(b fleet.BMC) fleet.BMC {
				b.SealedPassword = "new"
				return b
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		<-e.Started()
		start(t, e)
		time.Sleep(time.Minute) //nolint:forbidigo // fake time: synctest
		if rn := e.Runs()[0].Nodes[0]; rn.State.Over() || rn.Job != nil || !slices.Equal(m.orders, []string{"x", "new"}) || m.asked[len(m.asked)-1] != "new" {
			t.Errorf("ordered with %q, asked with %q; the run is %+v", m.orders, m.asked, rn)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}
