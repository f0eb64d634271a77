package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Setup changes what machines have in their firmware's setup. A change counts
// from the machine's next start on.
type Setup interface {
	BIOS(ctx context.Context, n fleet.Node) (fleet.BIOS, error)
	SetBIOS(ctx context.Context, n fleet.Node, want map[string]string) error
}

// biosWithin is how long a machine may take to start and to show its new
// settings. Some test all of their memory first.
const biosWithin = 20 * time.Minute

// BIOS reads a node's BIOS settings, and says which are not as its profile has
// them.
func (e *Engine) BIOS(ctx context.Context, ref string) (fleet.Node, fleet.BIOS, []fleet.BIOSChange, error) {
	n, err := e.speakable(ref, "read BIOS settings")
	if err != nil || e.Setup == nil {
		return n, fleet.BIOS{}, nil, cmp.Or(err, withoutBMC(n, "read BIOS settings"))
	}
	b, err := e.Setup.BIOS(ctx, n)
	e.notePin(ctx, n, err)
	if err != nil {
		return n, b, nil, err
	}
	return n, b, b.Diff(e.biosWanted(n)), nil
}

// biosWanted is what the node's profile says of machines of its model.
func (e *Engine) biosWanted(n fleet.Node) map[string]string {
	site := e.Site()
	pool, _ := site.Pool(n.Pool)
	profile, _ := site.Profile(pool.Profile)
	return profile.BIOSOf(e.modelOf(n))
}

// modelOf is who made a machine, as it says itself, or else as its BMC says.
func (e *Engine) modelOf(n fleet.Node) (vendor, model string) {
	h := e.rounds.get(n.ID).Hardware
	return cmp.Or(n.Inventory.Vendor, h.Vendor), cmp.Or(n.Inventory.Product, h.Model)
}

// ApplyBIOS makes a node's BIOS settings those of its profile: sets them,
// restarts the machine, and looks whether it has taken them. The last goes on
// after the answer; what came of it is an event, or a finding. A machine that
// serves its cluster is restarted with force only.
func (e *Engine) ApplyBIOS(ctx context.Context, actor, ref string, force bool) (fleet.Node, []fleet.BIOSChange, error) {
	e.awaitAccountOf(ctx, ref)
	n, _, changes, err := e.BIOS(ctx, ref)
	if err == nil {
		err = e.mayApply(n, changes)
	}
	if err == nil && len(changes) > 0 && !force {
		err = n.CheckIdle(setBIOS, "--force")
	}
	if err != nil || len(changes) == 0 {
		return n, changes, err
	}
	letGo, err := e.takeInHand(n, setBIOS, actor, handSetup)
	if err != nil {
		return n, changes, err
	}
	want, err := e.setBIOS(ctx, actor, n, changes)
	if err != nil {
		letGo()
		return n, changes, err
	}
	e.runs.Go(func() {
		defer letGo()
		e.awaitBIOS(e.running, n, want)
	})
	return n, changes, nil
}

const setBIOS = "change BIOS settings"

// setBIOS has the BMC change settings, and restarts the machine, whoever still
// waits for it: settings that are set count from whatever start comes next.
func (e *Engine) setBIOS(ctx context.Context, actor string, n fleet.Node, changes []fleet.BIOSChange) (want map[string]string, err error) {
	ctx, cancel := e.outliving(ctx, powerWithin)
	defer cancel()
	e.awaitAccount(ctx, n.ID) // whose change has begun since the settings were read
	n = e.asItIs(n)
	want, text := settle(changes)
	if err := e.Setup.SetBIOS(ctx, n, want); err != nil {
		return nil, err
	}
	if _, err := e.startAnew(ctx, actor, n, "for BIOS settings"); err != nil {
		return nil, err
	}
	e.tell(ctx, n.ID, fleet.EventChanged, actor, text)
	return want, nil
}

// settle returns what is to be set, and a line about it.
func settle(changes []fleet.BIOSChange) (want map[string]string, text string) {
	want = map[string]string{}
	var list []string
	for _, c := range changes {
		want[c.Name] = c.Want
		list = append(list, c.Name+" "+c.Is+" to "+c.Want)
	}
	return want, fleet.CleanText("BIOS settings: " + strings.Join(list, ", "))
}

func (e *Engine) mayApply(n fleet.Node, changes []fleet.BIOSChange) error {
	bad := func(code fleet.Code, hint string, err error) error {
		return &fleet.Error{Kind: fleet.Conflict, Code: code, Op: setBIOS, On: "node " + n.Title(), Err: err, Hint: hint}
	}
	if n.Run != "" {
		return runHasIt(n, setBIOS)
	}
	if len(e.biosWanted(n)) == 0 {
		return bad(fleet.CodeBMCBIOS, "give its profile bios: in site.yaml", errors.New("nothing is declared for machines of its model"))
	}
	for _, c := range changes {
		if c.Unknown {
			return bad(fleet.CodeBMCBIOS, "see what it has: provision bmc bios --all "+n.Title(), fmt.Errorf("it has no BIOS setting %q", c.Name))
		}
	}
	return nil
}

// startAnew switches a machine off and on, or on, for who has it in hand.
func (e *Engine) startAnew(ctx context.Context, actor string, n fleet.Node, why string) (fleet.PowerState, error) {
	state, err := e.Power(ctx, actor, string(n.ID), fleet.PowerOrder{Op: fleet.PowerStatus})
	if err != nil {
		return state, err
	}
	op := fleet.PowerCycle
	if state == fleet.PowerIsOff {
		op = fleet.PowerOn
	}
	return e.order(ctx, actor, n, fleet.PowerOrder{Op: op, Reason: why})
}

// awaitBIOS asks until the settings are as they shall be, and notes it when they
// do not come to be.
func (e *Engine) awaitBIOS(ctx context.Context, n fleet.Node, want map[string]string) {
	err := e.biosTaken(ctx, n, want)
	switch {
	case err == nil:
		e.refine(ctx, n.ID, func(b fleet.BMC) fleet.BMC { return b.WithoutFindings(fleet.CodeBMCBIOS) })
		e.tell(ctx, n.ID, fleet.EventChanged, "engine", biosAsDeclared)
	case ctx.Err() == nil:
		e.refine(ctx, n.ID, func(b fleet.BMC) fleet.BMC { return b.WithFinding(fleet.CodeBMCBIOS, errors.Unwrap(err).Error()) })
	}
}

const biosAsDeclared = "BIOS settings are as declared, read back after the restart"

// biosTaken asks until a machine has the settings that were set before it was
// restarted. Some cannot be asked while they restart.
func (e *Engine) biosTaken(ctx context.Context, n fleet.Node, want map[string]string) error {
	last := "its BMC did not say what it has"
	err := e.keepAsking(ctx, biosWithin, func(ctx context.Context) bool {
		b, err := e.Setup.BIOS(ctx, e.asItIs(n))
		if err != nil {
			return false
		}
		diff := b.Diff(want)
		if len(diff) > 0 {
			last = fleet.CleanText(fmt.Sprintf("%s is %s, not %s", diff[0].Name, cmp.Or(diff[0].Is, "unknown"), diff[0].Want))
		}
		return len(diff) == 0
	})
	if !errors.Is(err, errAskedInVain) {
		return err
	}
	return &fleet.Error{
		Kind: fleet.Conflict, Code: fleet.CodeBMCBIOS, Op: "change BIOS settings", On: "node " + n.Title(), Err: errors.New(last),
		Hint: fleet.Diagnose(fleet.CodeBMCBIOS).FixFor(n.Title()),
	}
}
