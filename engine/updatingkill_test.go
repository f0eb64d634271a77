package engine

import (
	"context"
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
	e = New(Options{Store: s, Power: h, Images: r, Seeds: r, Joiner: r, Rotator: r, Setup: h, Updater: h, Examiner: h, CheckEvery: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Started()
	return e, func() { cancel(); <-done }
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
