package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// An Updater installs firmware. It returns when the BMC says that it is done.
type Updater interface {
	Update(ctx context.Context, n fleet.Node, c fleet.FirmwareChange, tell func(percent int)) error
}

// How long a machine may take until it shows a new version, and how often it is
// asked.
const (
	versionWithin = 20 * time.Minute
	versionEvery  = 20 * time.Second
)

// updates are those that are under way, and the last ones of each node. They
// are in memory: a BMC goes on with its task by itself, and what came of it is
// read again.
type updates struct {
	mu   sync.Mutex
	of   map[fleet.NodeID][]fleet.FirmwareUpdate
	busy map[fleet.NodeID]bool
}

func newUpdates() *updates {
	return &updates{of: map[fleet.NodeID][]fleet.FirmwareUpdate{}, busy: map[fleet.NodeID]bool{}}
}

// begin takes the node, unless it is taken.
func (u *updates) begin(id fleet.NodeID, changes []fleet.FirmwareChange) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[id] {
		return false
	}
	u.busy[id] = true
	u.of[id] = nil
	for _, c := range changes {
		u.of[id] = append(u.of[id], fleet.FirmwareUpdate{FirmwareChange: c, State: fleet.FirmwareWaits})
	}
	return true
}

// end lets go of the node. What waited behind one that failed is not done.
func (u *updates) end(id fleet.NodeID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.busy, id)
	for i := range u.of[id] {
		if u.of[id][i].State == fleet.FirmwareWaits {
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
// version counts from the next start on.
func (e *Engine) UpdateFirmware(ctx context.Context, actor, ref, component string, restart bool) (fleet.Node, []fleet.FirmwareUpdate, error) {
	n, _, err := e.Examine(ctx, ref) // what it has now, not yesterday
	if err != nil {
		return n, nil, err
	}
	changes := e.firmwareDiff(n)
	if component != "" {
		changes = slices.DeleteFunc(changes, func(c fleet.FirmwareChange) bool { return c.Component != component })
	}
	if len(changes) == 0 {
		return n, e.updates.show(n.ID, nil), nil
	}
	bad := func(code fleet.Code, hint string, err error) error {
		return &fleet.Error{Kind: fleet.Conflict, Code: code, Op: "update firmware", On: "node " + n.Title(), Err: err, Hint: hint}
	}
	missing := slices.IndexFunc(changes, func(c fleet.FirmwareChange) bool { return c.Missing })
	switch {
	case e.Updater == nil:
		return n, nil, withoutBMC(n, "update firmware")
	case n.Run != "":
		return n, nil, bad("E-RUN-ACTIVE", "wait for the run: provision runs watch "+string(n.Run), fmt.Errorf("run %s works on it", n.Run))
	case missing >= 0:
		return n, nil, bad(fleet.CodeBMCUnsupported, "see what it has: provision bmc show "+n.Title(), fmt.Errorf("its BMC lists no firmware of %q", changes[missing].Component))
	case !e.updates.begin(n.ID, changes):
		return n, nil, bad(fleet.CodeBMCBusy, "see how far it is: provision bmc update "+n.Title(), errors.New("its firmware is being updated already"))
	}
	e.runs.Go(func() {
		defer e.updates.end(n.ID)
		for i := range changes {
			if !e.updateOne(e.running, actor, n, i, changes[i], restart) {
				return
			}
		}
	})
	return n, e.updates.show(n.ID, nil), nil
}

// updateOne updates one component, and says what came of it. It returns false
// when the others shall be left alone.
func (e *Engine) updateOne(ctx context.Context, actor string, n fleet.Node, i int, c fleet.FirmwareChange, restart bool) bool {
	set := func(s fleet.FirmwareState, err error) {
		e.updates.change(n.ID, i, func(u *fleet.FirmwareUpdate) {
			u.State = s
			if err != nil {
				u.Error = fleet.CleanText(err.Error())
			}
		})
	}
	set(fleet.FirmwareRunning, nil)
	e.tellFirmware(ctx, actor, n, fmt.Sprintf("firmware of %s: %s to %s, from %s", c.Component, cmp.Or(c.Is, "unknown"), c.Want, c.URL))
	err := e.Updater.Update(ctx, n, c, func(percent int) {
		e.updates.change(n.ID, i, func(u *fleet.FirmwareUpdate) { u.Percent = percent })
	})
	if err == nil && !e.hasVersion(ctx, n, c) {
		set(fleet.FirmwareRestart, nil)
		if !restart {
			e.tellFirmware(ctx, "engine", n, "firmware of "+c.Component+" is installed; it counts from the machine's next start on")
			return true
		}
		if _, err = e.startAnew(ctx, actor, n, "for firmware of "+c.Component); err == nil {
			err = e.awaitVersion(ctx, n, c)
		}
	}
	if err != nil {
		set(fleet.FirmwareFailed, err)
		e.tellFirmware(ctx, "engine", n, "firmware of "+c.Component+" not updated: "+err.Error())
		return false
	}
	set(fleet.FirmwareDone, nil)
	e.tellFirmware(ctx, "engine", n, "firmware of "+c.Component+" is "+c.Want+", read back")
	return true
}

// hasVersion looks once whether the machine shows the version.
func (e *Engine) hasVersion(ctx context.Context, n fleet.Node, c fleet.FirmwareChange) bool {
	now, err := e.examine(ctx, n, true)
	return err == nil && slices.ContainsFunc(now.Hardware.Firmware, func(f fleet.Firmware) bool { return f.ID == c.Component && f.Version == c.Want })
}

func (e *Engine) awaitVersion(ctx context.Context, n fleet.Node, c fleet.FirmwareChange) error {
	ctx, cancel := context.WithTimeoutCause(ctx, versionWithin, fmt.Errorf("the BMC says that it is installed, and shows another version after %s", versionWithin))
	defer cancel()
	tick := time.NewTicker(versionEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if e.hasVersion(ctx, n, c) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (e *Engine) tellFirmware(ctx context.Context, actor string, n fleet.Node, text string) {
	err := e.update(context.WithoutCancel(ctx), func(t *tx) error {
		t.event(fleet.EventChanged, n, actor, fleet.CleanText(text))
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "firmware update not recorded", "node", n.ID, "err", err)
	}
}
