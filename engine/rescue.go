package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/rackstage/provision/fleet"
)

// Rescue puts a node into the rescue system until [Engine.EndRescue]. With
// restart, it is restarted into it: by its BMC, or by its agent, when that
// waits in the ramdisk. Otherwise it gets there when it starts the next time.
func (e *Engine) Rescue(ctx context.Context, actor, ref string, restart bool) (fleet.Node, error) {
	letGo, err := e.takeToRescue(actor, ref, restart)
	if err != nil {
		return fleet.Node{}, err
	}
	defer letGo()
	n, err := e.enterRescue(ctx, actor, ref, false)
	if err != nil || !restart || !n.BMC.Usable() {
		return n, err
	}
	return n, e.restart(ctx, actor, n, fleet.PXENext)
}

// takeToRescue takes a node for all of its restart, before anything changes that
// the restart is for.
func (e *Engine) takeToRescue(actor, ref string, restart bool) (letGo func(), err error) {
	n, err := e.Node(ref)
	if err != nil || !restart || !n.BMC.Usable() {
		return func() {}, err
	}
	letGo, err = e.takeToSwitch(n, "rescue", actor)
	if held, ok := errors.AsType[*fleet.Error](err); ok && held.Code != fleet.CodeBMCBusy {
		return nil, rescueError(n, held.Err, held.Hint)
	}
	return letGo, err
}

// RescueOnce is for a machine in whose own menu somebody has chosen the rescue
// system. It says whether that is allowed; what the server knows of a machine
// that nobody has approved does not change.
func (e *Engine) RescueOnce(ctx context.Context, mac fleet.MAC) bool {
	n, known := e.NodeByMAC(mac)
	if !n.MayRescueItself() {
		return false
	}
	if !known || n.State == fleet.Discovered || n.State == fleet.Rescue {
		return true
	}
	_, err := e.enterRescue(ctx, "menu of the machine", string(n.ID), true)
	if err != nil {
		e.Log.WarnContext(ctx, "rescue system not given", "mac", mac, "err", err)
	}
	return err == nil
}

func (e *Engine) enterRescue(ctx context.Context, actor, ref string, once bool) (fleet.Node, error) {
	found, err := e.Node(ref)
	if err != nil {
		return found, err
	}
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(found.ID)
		if err != nil {
			return err
		}
		found = n
		switch {
		case n.Run != "":
			return rescueError(n, fmt.Errorf("run %s works on it", n.Run), "wait for the run: provision runs watch "+string(n.Run))
		case once && !n.MayRescueItself():
			return rescueError(n, errors.New("its disk was written"), "from here: provision nodes rescue "+n.Title())
		case n.State == fleet.Rescue:
			n.Rescue.Once = n.Rescue.Once && once
		case !fleet.CanFollow(n.State, fleet.Rescue):
			return rescueError(n, fmt.Errorf("it is %s", n.State), "only nodes that are ready, failed, in maintenance or have their system can be rescued")
		default:
			n.Rescue = fleet.Stay{From: n.State, Since: t.now, Once: once}
			n.State = fleet.Rescue
			t.event(fleet.EventChanged, n, actor, fmt.Sprintf("was %s, boots the rescue system", n.Rescue.From))
		}
		t.put(n)
		found = n
		return nil
	})
	return found, err
}

// EndRescue makes a node what it was before. With restart, its BMC restarts it
// into its own system, or switches it off when it has none.
func (e *Engine) EndRescue(ctx context.Context, actor, ref string, restart bool) (fleet.Node, error) {
	found, err := e.Node(ref)
	if err != nil {
		return found, err
	}
	letGo, err := e.takeToRescue(actor, string(found.ID), restart)
	if err != nil {
		return found, err
	}
	defer letGo()
	if found, err = e.leaveRescue(ctx, actor, found.ID); err != nil || !restart || !found.BMC.Usable() {
		return found, err
	}
	if err := e.emptyDrive(ctx, found); err != nil {
		return found, err
	}
	if !found.System.InstalledAt.IsZero() {
		return found, e.restart(ctx, actor, found, fleet.DiskNext)
	}
	_, err = e.order(ctx, actor, found, fleet.PowerOrder{Op: fleet.PowerOff, Reason: "rescue ended"})
	return found, err
}

// EndRescueOnce is for a machine that starts again: what somebody has chosen in
// its menu was for one boot.
func (e *Engine) EndRescueOnce(ctx context.Context, mac fleet.MAC) {
	n, _ := e.NodeByMAC(mac)
	if n.State != fleet.Rescue || !n.Rescue.Once {
		return
	}
	if _, err := e.leaveRescue(ctx, "menu of the machine", n.ID); err != nil {
		e.Log.WarnContext(ctx, "rescue not ended", "mac", mac, "err", err)
	}
}

func (e *Engine) leaveRescue(ctx context.Context, actor string, id fleet.NodeID) (found fleet.Node, err error) {
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		if n.State != fleet.Rescue {
			return rescueError(n, fmt.Errorf("it is %s, not in the rescue system", n.State), "see: provision nodes show "+n.Title())
		}
		n.State, n.Rescue = n.Rescue.From, fleet.Stay{}
		t.put(n)
		t.event(fleet.EventChanged, n, actor, "left the rescue system, is "+string(n.State))
		found = n
		return nil
	})
	return found, err
}

// restart restarts a node through its BMC, with a boot device for once.
func (e *Engine) restart(ctx context.Context, actor string, n fleet.Node, device fleet.PowerOp) error {
	before := e.session(n.ID)
	boot := fleet.PowerOrder{Op: device}
	if device == fleet.PXENext {
		var err error
		if boot, err = e.networkBoot(n); err != nil {
			return err
		}
	}
	orders := []fleet.PowerOrder{boot, {Op: fleet.PowerCycle}}
	if n.BMC.Quirks.BootNeedsOff {
		orders = []fleet.PowerOrder{{Op: fleet.PowerOff}, boot, {Op: fleet.PowerOn}}
	}
	for _, o := range orders {
		o.Reason = "rescue"
		if _, err := e.order(ctx, actor, n, o); err != nil {
			return err
		}
	}
	e.links.of(n.ID).forget(before)
	return nil
}

func rescueError(n fleet.Node, err error, hint string) error {
	return &fleet.Error{Kind: fleet.Conflict, Code: "E-RESCUE", Op: "rescue", On: "node " + n.Title(), Err: err, Hint: hint}
}
