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

// errNeedsStart says that a version is installed, and counts from a start on
// that nobody has asked for.
var errNeedsStart = errors.New("it counts from the machine's next start on")

// An updating is one component on its way to its version.
type updating struct {
	e     *Engine
	node  fleet.Node
	at    int // in the node's list of updates
	actor string
	event fleet.EventType
	job   fleet.FirmwareJob
	keep  func(ctx context.Context, job fleet.FirmwareJob) error // for who comes after a restart of the server
	start func(ctx context.Context, why string) error            // nil: the machine is not restarted
}

// do goes on from where the job is, and says what came of it.
func (u *updating) do(ctx context.Context) error {
	err := u.carryOn(ctx)
	switch {
	case err == nil:
		u.show(fleet.FirmwareDone, nil)
		u.tell(ctx, "engine", fmt.Sprintf("firmware of %s is %s, read back", u.job.Component, u.job.Want))
	case errors.Is(err, errNeedsStart):
		u.show(fleet.FirmwareRestart, nil)
		u.tell(ctx, "engine", "firmware of "+u.job.Component+" is installed; "+errNeedsStart.Error())
	case ctx.Err() == nil: // else the server stops, and nothing has failed
		u.show(fleet.FirmwareFailed, err)
		u.tell(ctx, "engine", "firmware of "+u.job.Component+" not updated: "+err.Error())
	}
	return err
}

func (u *updating) carryOn(ctx context.Context) error {
	u.show(fleet.FirmwareRunning, nil)
	if u.job.Stage == fleet.JobAsked { // it may have done it, and have forgotten that it was asked
		if there, err := u.shown(ctx); there || err != nil {
			return cmp.Or(err, u.keep(ctx, fleet.FirmwareJob{}))
		}
	}
	switch u.job.Stage {
	case fleet.JobNew, fleet.JobAsked, fleet.JobRunning:
		if err := u.install(ctx); err != nil {
			return err
		}
		fallthrough
	case fleet.JobInstalled:
		shown, err := u.shown(ctx)
		if err != nil {
			return err
		}
		if shown {
			return u.keep(ctx, fleet.FirmwareJob{})
		}
		if err := u.restart(ctx); err != nil {
			return err
		}
	case fleet.JobRestarted: // before the server was stopped, or just not yet
	}
	err := u.await(ctx, versionWithin)
	switch {
	case err == nil:
		return u.keep(ctx, fleet.FirmwareJob{})
	case fleet.CodeOf(err) == fleet.CodeBMCFirmware: // whoever tries again restarts it once more
		return errors.Join(err, u.reach(ctx, fleet.JobInstalled))
	}
	return err
}

// install has the BMC install the image.
func (u *updating) install(ctx context.Context) error {
	c := u.job.FirmwareChange
	text := fmt.Sprintf("firmware of %s: %s to %s, from %s", c.Component, cmp.Or(c.Is, "unknown"), c.Want, c.URL)
	if u.job.Stage != fleet.JobNew {
		text += ", gone on with"
	}
	u.tell(ctx, u.actor, text)
	err := u.order(ctx)
	lost := u.job.Stage == fleet.JobAsked && !final(err)                  // its tasks tell whether it has begun
	other := fleet.CodeOf(err) == fleet.CodeBMCLogin && u.hasNewAccount() // it goes on, and says so to that one
	if err != nil && (lost || other) && ctx.Err() == nil {
		err = u.order(ctx)
	}
	if err != nil {
		return err
	}
	u.job.Before = nil
	if u.job.Task == "" { // a machine is not restarted while its firmware may still be written
		if err := u.await(ctx, hiddenWithin); err != nil && ctx.Err() != nil {
			return err
		} // else it may count from the next start on
	}
	return u.reach(ctx, fleet.JobInstalled)
}

// hasNewAccount reports whether the node's account is another than the one that
// the BMC was asked with.
func (u *updating) hasNewAccount() bool {
	was, is := u.node.BMC, u.e.asItIs(u.node).BMC
	return is.Username != was.Username || is.SealedPassword != was.SealedPassword || is.Address != was.Address
}

// order has the BMC do the job, which may be under way, and learns how far it is.
func (u *updating) order(ctx context.Context) error {
	u.node = u.e.asItIs(u.node)
	var mu sync.Mutex // a conversation that was given up may still have a word
	last := u.job
	err := u.e.Updater.Update(ctx, u.node, u.job, func(job fleet.FirmwareJob) error {
		mu.Lock()
		defer mu.Unlock()
		err := u.keep(ctx, job)
		if err == nil {
			last = job
		}
		return err
	}, func(percent int) {
		u.e.updates.change(u.node.ID, u.at, func(f *fleet.FirmwareUpdate) { f.Percent = percent })
		if u.node.Run != "" {
			u.e.progress(u.node.ID, percent)
		}
	})
	mu.Lock()
	defer mu.Unlock()
	last.FirmwareChange = u.job.FirmwareChange // one that has failed has none
	u.job = last
	return err
}

// restart restarts the machine. That is kept first: one that may have been
// restarted is not disturbed while it writes its firmware.
func (u *updating) restart(ctx context.Context) error {
	if u.start == nil {
		return errNeedsStart
	}
	if err := u.reach(ctx, fleet.JobRestarted); err != nil {
		return err
	}
	err := u.start(ctx, "for firmware of "+u.job.Component)
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, u.reach(ctx, fleet.JobInstalled))
	}
	return err
}

// reach notes how far the job is.
func (u *updating) reach(ctx context.Context, s fleet.JobStage) error {
	u.job.Stage, u.job.At = s, time.Now().UTC()
	return u.keep(ctx, u.job)
}

// shown looks whether the machine shows the version, as soon as its BMC answers:
// it may be restarting after its own update, or have others to talk to. While it
// has not said what the machine has, there is no reason to restart the machine,
// nor to ask for the image again.
func (u *updating) shown(ctx context.Context) (shown bool, err error) {
	c := u.job.FirmwareChange
	last := errors.New("no answer")
	err = u.e.keepAsking(ctx, silentWithin, func(ctx context.Context) (over bool) {
		yes, err := u.e.hasVersion(ctx, u.node, c)
		if err == nil {
			shown = yes
			return true
		}
		if ctx.Err() == nil {
			last = err
		}
		return false
	})
	if !errors.Is(err, errAskedInVain) {
		return shown, err
	}
	is, so := "is installed", "the machine was not restarted"
	if u.job.Stage == fleet.JobAsked {
		is, so = "was asked for", "it was not asked again"
	}
	return false, &fleet.Error{
		Kind: fleet.Unreachable, Code: cmp.Or(fleet.CodeOf(last), fleet.CodeBMCTimeout), Op: "update firmware", On: "node " + u.node.Title(),
		Err:  fmt.Errorf("%s %s %s, and the BMC has not said for %s what it has now, so %s: %w", c.Component, c.Want, is, silentWithin, so, last),
		Hint: "when the BMC answers again, repeat it: provision bmc update " + u.node.Title(),
	}
}

// await waits until the machine shows the version.
func (u *updating) await(ctx context.Context, most time.Duration) error {
	c := u.job.FirmwareChange
	last := "nothing"
	err := u.e.keepAsking(ctx, most, func(ctx context.Context) bool {
		yes, err := u.e.hasVersion(ctx, u.node, c)
		if err == nil {
			last = "another version"
		}
		return err == nil && yes
	})
	if !errors.Is(err, errAskedInVain) {
		return err
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeBMCFirmware, Op: "update firmware", On: "node " + u.node.Title(),
		Err:  fmt.Errorf("the BMC says that %s %s is installed, and shows %s after %s", c.Component, c.Want, last, most),
		Hint: fleet.Diagnose(fleet.CodeBMCFirmware).FixFor(u.node.Title()),
	}
}

// show notes how far it is for who asks.
func (u *updating) show(s fleet.FirmwareState, err error) {
	u.e.updates.change(u.node.ID, u.at, func(f *fleet.FirmwareUpdate) {
		f.State = s
		if err != nil {
			f.Error = fleet.CleanText(err.Error())
		}
	})
}

func (u *updating) tell(ctx context.Context, actor, text string) {
	u.e.tell(ctx, u.node.ID, u.event, actor, text)
}

// hasVersion asks a BMC whether the machine has a version.
func (e *Engine) hasVersion(ctx context.Context, n fleet.Node, c fleet.FirmwareChange) (bool, error) {
	now, err := e.examine(ctx, e.asItIs(n), true)
	return slices.ContainsFunc(now.Hardware.Firmware, func(f fleet.Firmware) bool { return f.ID == c.Component && f.Version == c.Want }), err
}

// errAskedInVain ends questions that never got the answer that was waited for.
var errAskedInVain = errors.New("asked in vain")

// keepAsking asks a BMC until it is over, for so long at most: at once, and then now and
// again.
func (e *Engine) keepAsking(ctx context.Context, most time.Duration, question func(ctx context.Context) (over bool)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errAskedInVain)
	defer cancel()
	tick := time.NewTicker(e.AskEvery)
	defer tick.Stop()
	for {
		if question(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tell records what happened to a node.
func (e *Engine) tell(ctx context.Context, id fleet.NodeID, typ fleet.EventType, actor, text string) {
	err := e.update(context.WithoutCancel(ctx), func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		t.event(typ, n, actor, fleet.CleanText(text))
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "what happened to a node not recorded", "node", id, "err", err)
	}
}
