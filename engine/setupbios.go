package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// bios makes the machine's BIOS settings those of its profile.
func (j job) bios(ctx context.Context) error {
	n, rn, err := j.known(ctx)
	if err != nil {
		return err
	}
	pool, _ := j.e.Site().Pool(n.Pool)
	leave := func(err error) error { return j.orLeave(ctx, pool.BIOS, "BIOS settings", err) }
	if err := cannot(n, "change BIOS settings", j.e.Setup != nil); err != nil {
		return j.over(ctx, fleet.PhaseBIOS, leave(err))
	}
	want, err := j.compareBIOS(ctx, n, leave)
	if err != nil || len(want) == 0 {
		return j.over(ctx, fleet.PhaseBIOS, leave(err))
	}
	if rn.Restarted.IsZero() { // else it may be on its way up: whoever restarts it now disturbs it
		if err := j.startBIOS(ctx, n, want); err != nil {
			return j.over(ctx, fleet.PhaseBIOS, leave(err))
		}
	}
	err = j.e.biosTaken(ctx, n, want)
	if ctx.Err() != nil {
		return err
	}
	if err := errors.Join(err, j.restarted(ctx, time.Time{})); err != nil {
		return err
	}
	j.e.tell(ctx, n.ID, fleet.EventEvidence, "engine", biosAsDeclared)
	return j.reached(ctx, fleet.PhaseBIOS)
}

// compareBIOS returns what has to be set. Settings that the machine does not have
// are left out, where that is allowed.
func (j job) compareBIOS(ctx context.Context, n fleet.Node, leave func(error) error) (map[string]string, error) {
	var b fleet.BIOS
	err := j.patiently(ctx, func(ctx context.Context) (err error) {
		b, err = j.e.Setup.BIOS(ctx, j.e.asItIs(n))
		return err
	})
	if err != nil {
		return nil, err
	}
	changes := b.Diff(j.e.biosWanted(n))
	for _, c := range changes {
		if !c.Unknown {
			continue
		}
		err := leave(&fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeBMCUnsupported, Op: "change BIOS settings", On: "node " + n.Title(), Err: fmt.Errorf("it has no BIOS setting %q", c.Name),
			Hint: "see what it has: provision bmc bios --all " + n.Title(),
		})
		if err != nil {
			return nil, err
		}
	}
	want, text := settle(slices.DeleteFunc(changes, func(c fleet.BIOSChange) bool { return c.Unknown }))
	if len(want) == 0 {
		text = "BIOS settings: as declared"
	}
	j.e.tell(ctx, n.ID, fleet.EventEvidence, "engine", text)
	return want, nil
}

// startBIOS sets them, and restarts the machine.
func (j job) startBIOS(ctx context.Context, n fleet.Node, want map[string]string) error {
	if err := j.e.Setup.SetBIOS(ctx, n, want); err != nil {
		return err
	}
	if err := j.restarted(ctx, time.Now().UTC()); err != nil {
		return err
	}
	err := j.restart(ctx, n, "for BIOS settings")
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, j.restarted(ctx, time.Time{}))
	}
	return err
}

// restarted notes that the machine is being restarted for its BIOS settings, and
// that it was.
func (j job) restarted(ctx context.Context, at time.Time) error {
	return j.changeRun(ctx, func(rn *fleet.RunNode) { rn.Restarted = at })
}
