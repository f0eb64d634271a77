package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// wants reports whether there is anything to do in a phase. What a pool leaves
// alone, or what is declared for no machine of the model, is not entered.
func (j job) wants(p fleet.Phase) bool {
	if !p.Setup() {
		return true
	}
	n, rn, err := j.load()
	if err != nil {
		return true // the phase says what is wrong
	}
	pool, _ := j.e.Site().Pool(n.Pool)
	if p == fleet.PhaseBIOS {
		return pool.BIOS != fleet.SetupLeave && len(j.e.biosWanted(n)) > 0
	}
	return rn.Job != nil || pool.Firmware != fleet.SetupLeave && len(j.e.firmwareWanted(n)) > 0
}

// firmwareWanted is what the site declares for machines of the node's model.
func (e *Engine) firmwareWanted(n fleet.Node) []fleet.FirmwareTarget {
	vendor, model := e.modelOf(n)
	return e.Site().FirmwareOf(vendor, model)
}

// firmware brings the machine's firmware to the declared versions, one component
// after the other.
func (j job) firmware(ctx context.Context) error {
	n, rn, err := j.known(ctx)
	if err != nil {
		return err
	}
	pool, _ := j.e.Site().Pool(n.Pool)
	leave := func(what string, err error) error { return j.orLeave(ctx, pool.Firmware, "firmware"+what, err) }
	if err := cannot(n, "update firmware", j.e.Updater != nil && j.e.Examiner != nil); err != nil {
		return j.over(ctx, fleet.PhaseFirmware, leave("", err))
	}
	if rn.Job != nil {
		if err := leave(" of "+rn.Job.Component, j.bring(ctx, n, *rn.Job)); err != nil {
			return err
		}
	}
	if pool.Firmware == fleet.SetupLeave { // it was changed since
		return j.reached(ctx, fleet.PhaseFirmware)
	}
	changes, err := j.compareFirmware(ctx, n)
	if err != nil {
		return j.over(ctx, fleet.PhaseFirmware, leave("", err))
	}
	for _, c := range changes {
		err := lacksComponent(n, c)
		if !c.Missing {
			err = j.bring(ctx, n, fleet.FirmwareJob{FirmwareChange: c})
		}
		if err := leave(" of "+c.Component, err); err != nil {
			return err
		}
	}
	if len(changes) == 0 && rn.Job == nil {
		j.e.tell(ctx, n.ID, fleet.EventEvidence, "engine", "firmware: as declared")
	}
	return j.reached(ctx, fleet.PhaseFirmware)
}

// over is the end of a phase, unless something is left to be said against it.
func (j job) over(ctx context.Context, p fleet.Phase, err error) error {
	if err != nil {
		return err
	}
	return j.reached(ctx, p)
}

// known returns the node, whose BMC somebody has looked at, and whose password is
// known where that was open.
func (j job) known(ctx context.Context) (fleet.Node, fleet.RunNode, error) {
	n, rn, err := j.load()
	if err == nil {
		n, err = j.e.settleOpen(ctx, n)
	}
	if err == nil && n.BMC.Via() == "" && n.BMC.Usable() {
		n, err = j.e.probed(ctx, n)
	}
	return n, rn, err
}

// compareFirmware asks the machine what it has now. After its BMC got new
// firmware, that may take a while.
func (j job) compareFirmware(ctx context.Context, n fleet.Node) ([]fleet.FirmwareChange, error) {
	err := j.patiently(ctx, func(ctx context.Context) error {
		_, err := j.e.examine(ctx, j.e.asItIs(n), true)
		return err
	})
	return j.e.firmwareDiff(n), err
}

// patiently asks a BMC until it answers.
func (j job) patiently(ctx context.Context, question func(ctx context.Context) error) error {
	var last error
	err := j.e.keepAsking(ctx, silentWithin, func(ctx context.Context) bool {
		last = question(ctx)
		return last == nil || final(last)
	})
	if err == nil || errors.Is(err, errAskedInVain) {
		return last
	}
	return err
}

// bring updates one component, or goes on with that.
func (j job) bring(ctx context.Context, n fleet.Node, at fleet.FirmwareJob) error {
	j.e.updates.begin(n.ID, []fleet.FirmwareChange{at.FirmwareChange})
	defer j.e.updates.end(n.ID)
	u := &updating{
		e: j.e, node: n, actor: "engine", event: fleet.EventEvidence, job: at, keep: j.keepJob,
		start: func(ctx context.Context, why string) error { return j.restart(ctx, n, why) },
	}
	return u.do(ctx)
}

// keepJob stores how far an update is; one that is over is forgotten.
func (j job) keepJob(ctx context.Context, at fleet.FirmwareJob) error {
	return j.changeRun(ctx, func(rn *fleet.RunNode) {
		rn.Job = nil
		if at.Stage != fleet.JobNew {
			rn.Job = &at
		}
	})
}

func (j job) changeRun(ctx context.Context, fn func(rn *fleet.RunNode)) error {
	return j.e.update(context.WithoutCancel(ctx), func(t *tx) error { return t.runNode(j.run, j.node, fn) })
}

// restart switches the machine off and on, or on.
func (j job) restart(ctx context.Context, n fleet.Node, why string) error {
	n = j.e.asItIs(n)
	now, err := j.e.switchNode(ctx, n, fleet.PowerOrder{Op: fleet.PowerStatus})
	if err != nil {
		return err
	}
	o := fleet.PowerOrder{Op: fleet.PowerCycle, Reason: why}
	if now.After == fleet.PowerIsOff {
		o.Op = fleet.PowerOn
	}
	done, err := j.e.switchNode(ctx, n, o)
	j.e.tell(ctx, n.ID, fleet.EventPower, "engine", powerText(o, done, err))
	return err
}

// cannot says why a machine's BMC can do none of it, as far as is known without
// asking.
func cannot(n fleet.Node, op string, can bool) error {
	via := n.BMC.Via()
	switch {
	case !n.BMC.Usable() || !can:
		return withoutBMC(n, op)
	case via != "" && (!via.Web() || n.BMC.Address == ""):
		return &fleet.Error{
			Kind: fleet.Conflict, Code: fleet.CodeBMCUnsupported, Op: op, On: "node " + n.Title(), Err: fmt.Errorf("by driver %s that cannot be done, by Redfish it can", via),
			Hint: "switch Redfish on in its BMC, and write bmc: {driver: redfish} into its rule; or have its pool do it where-possible",
		}
	}
	return nil
}

// orLeave is what becomes of what a machine cannot do: it fails, or it is left as
// it is, which the run says.
func (j job) orLeave(ctx context.Context, policy fleet.SetupPolicy, what string, err error) error {
	if err == nil || policy != fleet.SetupPossible || !fleet.SetupCode(fleet.CodeOf(err)) {
		return err
	}
	note := fleet.CleanText(what + " left as it is: " + string(fleet.CodeOf(err)) + " " + err.Error())
	return j.e.update(context.WithoutCancel(ctx), func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		t.event(fleet.EventEvidence, n, "engine", note)
		return t.runNode(j.run, j.node, func(rn *fleet.RunNode) {
			rn.Job = nil
			if !slices.Contains(rn.Notes, note) {
				rn.Notes = append(slices.Clone(rn.Notes), note)
			}
		})
	})
}
