package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// An Updater installs firmware. It returns when the BMC says that it is done. It
// tells how far the job is before the BMC is asked and whenever there is more to
// know, and goes on with a job that it is given: an image is not started twice.
type Updater interface {
	Update(ctx context.Context, n fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(percent int)) error
}

// How long a machine may take until it shows a new version; a BMC until it
// answers again, after its own; and until a BMC is done that does not say how
// far it is.
const (
	versionWithin = 20 * time.Minute
	silentWithin  = 10 * time.Minute
	hiddenWithin  = 15 * time.Minute
)

// updates are those that are under way, and the last ones of each node. They
// are in memory: a BMC goes on with its task by itself, and what came of it is
// read again.
type updates struct {
	mu sync.Mutex
	of map[fleet.NodeID][]fleet.FirmwareUpdate
}

func newUpdates() *updates {
	return &updates{of: map[fleet.NodeID][]fleet.FirmwareUpdate{}}
}

// begin notes updates of a node, for who has it in hand or in a run: nobody else
// has any under way.
func (u *updates) begin(id fleet.NodeID, changes []fleet.FirmwareChange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of[id] = nil
	for _, c := range changes {
		u.of[id] = append(u.of[id], fleet.FirmwareUpdate{FirmwareChange: c, State: fleet.FirmwareWaits})
	}
}

// end is for who has begun them. What waited behind one that failed is not done, nor is
// one that nobody follows any more.
func (u *updates) end(id fleet.NodeID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.of[id] {
		if s := u.of[id][i].State; s == fleet.FirmwareWaits || s == fleet.FirmwareRunning {
			u.of[id][i].State = fleet.FirmwareDiffers
		}
	}
}

func (u *updates) change(id fleet.NodeID, i int, f func(*fleet.FirmwareUpdate)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.of[id][i])
}

// show returns the node's differences, with how far those are that are under way.
func (u *updates) show(id fleet.NodeID, differ []fleet.FirmwareChange) []fleet.FirmwareUpdate {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := slices.Clone(u.of[id])
	for _, c := range differ {
		same := func(x fleet.FirmwareUpdate) bool { return x.Component == c.Component && x.Want == c.Want }
		if i := slices.IndexFunc(all, same); i < 0 {
			all = append(all, fleet.FirmwareUpdate{FirmwareChange: c, State: fleet.FirmwareDiffers})
		} else if all[i].State == fleet.FirmwareDone { // it went back
			all[i].State, all[i].Is = fleet.FirmwareDiffers, c.Is
		}
	}
	return all
}

// Firmware says which components of a node have not the version that the site
// declares, and how far their updates are.
func (e *Engine) Firmware(ref string) (fleet.Node, []fleet.FirmwareUpdate, error) {
	n, err := e.speakable(ref, "compare firmware")
	if err != nil {
		return n, nil, err
	}
	return n, e.updates.show(n.ID, e.firmwareDiff(n)), nil
}

func (e *Engine) firmwareDiff(n fleet.Node) []fleet.FirmwareChange {
	vendor, model := e.modelOf(n)
	return e.Site().FirmwareDiff(vendor, model, e.rounds.get(n.ID).Hardware.Firmware)
}

// UpdateFirmware brings components to the version that the site declares: all
// of them, or one. It goes on after the answer, one after the other, and ends
// with the first that fails. With restart the machine is restarted where a new
// version counts from the next start on; one that serves its cluster only with
// force.
func (e *Engine) UpdateFirmware(ctx context.Context, actor, ref string, o fleet.UpdateOptions) (fleet.Node, []fleet.FirmwareUpdate, error) {
	e.awaitAccountOf(ctx, ref)
	n, _, err := e.Examine(ctx, ref) // what it has now, not yesterday
	if err != nil {
		return n, nil, err
	}
	changes := e.firmwareDiff(n)
	if o.Component != "" {
		changes = slices.DeleteFunc(changes, func(c fleet.FirmwareChange) bool { return c.Component != o.Component })
	}
	if len(changes) == 0 {
		return n, e.updates.show(n.ID, nil), nil
	}
	letGo, err := e.takeToUpdate(actor, n, changes, o)
	if err != nil {
		return n, nil, err
	}
	e.runs.Go(func() {
		defer letGo()
		e.awaitAccount(e.running, n.ID) // whose change has begun since it was examined
		for i := range changes {
			if !e.updateOne(e.running, actor, n, i, changes[i], o.Restart) {
				return
			}
		}
	})
	return n, e.updates.show(n.ID, nil), nil
}

const updateFirmware = "update firmware"

// takeToUpdate takes the node for these updates, or says why not.
func (e *Engine) takeToUpdate(actor string, n fleet.Node, changes []fleet.FirmwareChange, o fleet.UpdateOptions) (letGo func(), err error) {
	if o.Restart && !o.Force {
		if err := n.CheckIdle(updateFirmware, "--force"); err != nil {
			return nil, err
		}
	}
	missing := slices.IndexFunc(changes, func(c fleet.FirmwareChange) bool { return c.Missing })
	switch {
	case e.Updater == nil:
		return nil, withoutBMC(n, updateFirmware)
	case missing >= 0:
		return nil, lacksComponent(n, changes[missing])
	}
	release, err := e.takeInHand(n, updateFirmware, actor, handFirmware)
	if err != nil {
		return nil, err
	}
	e.updates.begin(n.ID, changes)
	return func() {
		e.updates.end(n.ID)
		release()
	}, nil
}

func lacksComponent(n fleet.Node, c fleet.FirmwareChange) error {
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeBMCUnsupported, Op: updateFirmware, On: "node " + n.Title(), Err: fmt.Errorf("its BMC lists no firmware of %q", c.Component),
		Hint: "see what it has: provision bmc show " + n.Title(),
	}
}

// updateOne updates one component, as somebody has asked for. It returns false
// when the others shall be left alone.
func (e *Engine) updateOne(ctx context.Context, actor string, n fleet.Node, i int, c fleet.FirmwareChange, restart bool) bool {
	u := &updating{
		e: e, node: n, at: i, actor: actor, event: fleet.EventChanged, job: fleet.FirmwareJob{FirmwareChange: c},
		keep: func(context.Context, fleet.FirmwareJob) error { return nil }, // the BMC goes on by itself
	}
	if restart {
		u.start = func(ctx context.Context, why string) error {
			_, err := e.startAnew(ctx, actor, n, why)
			return err
		}
	}
	err := u.do(ctx)
	return err == nil || errors.Is(err, errNeedsStart)
}
