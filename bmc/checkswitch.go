package bmc

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// trial is the boot device that is set, read back, and taken back.
func (k *checkup) trial() Boot {
	mode := k.o.Mode
	if mode == "" {
		mode = UEFI
	}
	return Boot{Device: PXE, Mode: mode, Once: true}
}

// Ways in which BMCs show what is set: the first that fits is theirs.
var readings = []struct {
	obey func(*fleet.BMCQuirks)
	say  string
}{
	{func(*fleet.BMCQuirks) {}, ""},
	{func(q *fleet.BMCQuirks) { q.BootNoMode = true }, "UEFI or BIOS is not shown"},
	{func(q *fleet.BMCQuirks) { q.OnceIsForEver = true }, "once is shown as always"},
	{func(q *fleet.BMCQuirks) { q.BootNoMode, q.OnceIsForEver = true, true }, "UEFI or BIOS is not shown, and once as always"},
}

// errUnread says that what is set is shown in no way that we know.
var errUnread = errors.New("it says yes, and another boot device is read back")

// bootDevice sets one, reads it back, and takes it back. What somebody else has
// set is left alone, and who wants to set one meanwhile waits.
func (k *checkup) bootDevice(ctx context.Context) outcome {
	var found *outcome
	err := k.inTurn(ctx, func(ctx context.Context) error {
		out, err := k.bootInTurn(ctx)
		found = &out
		return err
	})
	switch {
	case found != nil:
		return *found
	case errors.Is(err, ErrBusy):
		return k.unable("check "+k.t.name()+" again when nobody else changes it", err)
	}
	return k.failed(err)
}

// inTurn tries a boot device while nobody else changes the machine: another one that
// is set in between would be taken back with ours.
func (k *checkup) inTurn(ctx context.Context, try func(context.Context) error) error {
	return k.c.change(ctx, "try boot device of", k.t, try)
}

// bootInTurn is bootDevice, with what was last wrong.
func (k *checkup) bootInTurn(ctx context.Context) (outcome, error) {
	none, err := k.boots(ctx, k.t, Boot{Device: NoDevice})
	switch {
	case errors.Is(err, ErrUnsupported):
		return k.unable("have the firmware of "+k.t.name()+" boot from the network first", err), err
	case err != nil && !errors.Is(err, ErrRejected): // some have none to show before the first is set
		return k.failed(err), err
	case err == nil && !none:
		return warn("switch "+k.t.name()+" on, and check again", "one is set, which is left as it is"), nil
	}
	say, err := k.tryBoot(ctx)
	switch {
	case err == nil && say == "":
		return fine("network once, read back as it was set"), nil
	case err == nil:
		return warn("nothing: keep its profile", "network once, read back; %s", say), nil
	}
	if k.byIPMI(ctx) {
		k.need(func(q *fleet.BMCQuirks) { q.BootByIPMI = true })
		return warn("nothing: keep its profile", "not by Redfish (%s), but by IPMI", k.failed(err).detail), nil
	}
	out := k.failed(err)
	if !k.o.Power {
		out.fix = "some take it while the machine is off only: provision bmc check " + k.t.name() + " --power"
	}
	return out, err
}

// tryBoot sets the device and finds out how it is shown. It is called in turn.
func (k *checkup) tryBoot(ctx context.Context) (say string, err error) {
	_, err = talk(ctx, k.c, k.t, func(ctx context.Context, l line) (none struct{}, err error) { return none, l.setBoot(ctx, k.trial()) })
	if errors.Is(err, ErrUnsupported) || errors.Is(err, ErrRejected) {
		return "", err
	}
	defer k.clearBoot(ctx) // also when it is not known whether it is set
	if err != nil {
		return "", err
	}
	for _, reading := range readings {
		t := k.t
		reading.obey(&t.Quirks)
		is, err := k.boots(ctx, t, k.trial())
		if err != nil {
			return "", err
		}
		if is {
			k.need(reading.obey)
			return reading.say, nil
		}
	}
	return k.tryUnmarked(ctx)
}

// tryUnmarked looks whether the BMC follows what is set, and only does not show
// that it counts.
func (k *checkup) tryUnmarked(ctx context.Context) (say string, err error) {
	const unmarked = "the flag that it counts is never shown"
	if !byIPMI(k.t) {
		return "", errUnread
	}
	for _, reading := range readings {
		obey := func(q *fleet.BMCQuirks) {
			reading.obey(q)
			q.BootNoValid = true
		}
		t := k.t
		obey(&t.Quirks)
		is, err := talk(ctx, k.c, t, func(ctx context.Context, l line) (bool, error) {
			flagger, ok := l.(interface{ unmarks() bool })
			if !ok {
				return false, nil
			}
			if err := l.setBoot(ctx, k.trial()); err != nil {
				return false, err
			}
			_, err := l.boots(ctx, k.trial())
			return flagger.unmarks(), err
		})
		if err != nil {
			return "", err
		}
		if is {
			k.need(obey)
			return strings.TrimSuffix(unmarked+"; "+reading.say, "; "), nil
		}
	}
	return "", errUnread
}

func (k *checkup) boots(ctx context.Context, t Target, b Boot) (bool, error) {
	return talk(ctx, k.c, t, func(ctx context.Context, l line) (bool, error) { return l.boots(ctx, b) })
}

// clearBoot leaves the machine to its own boot order, also when the check is given up
// in between.
func (k *checkup) clearBoot(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.c.o.Settle)
	defer cancel()
	_, _ = talk(ctx, k.c, k.t, func(ctx context.Context, l line) (none struct{}, err error) { // as it was when it cannot
		return none, l.setBoot(ctx, Boot{Device: NoDevice, Mode: k.trial().Mode})
	})
}

// byIPMI tries whether IPMI, with the same account, sets what Redfish does not.
func (k *checkup) byIPMI(ctx context.Context) bool {
	if !k.t.Driver.Web() {
		return false
	}
	other := *k
	other.t.Driver, other.t.Quirks.BootNoMode, other.t.Quirks.OnceIsForEver = fleet.DriverIPMI, false, false
	if other.t.check() != nil {
		return false
	}
	_, err := other.tryBoot(anew(ctx))
	if err == nil {
		k.report.Quirks = other.report.Quirks
	}
	return err == nil
}

// How much of what drivers wait for is too near to it, and what they are to wait
// for then.
const (
	nearSettle   = 2 // times what was measured
	settleFactor = 3
)

func (k *checkup) patient() Target {
	t := k.t
	t.Quirks.Settle = max(t.Quirks.Settle, k.c.o.CheckSettle)
	return t
}

// shutdown asks the system of a machine that is on. One in its firmware's setup,
// or in a boot loader, does not listen.
func (k *checkup) shutdown(ctx context.Context) outcome {
	state, err := k.c.Power(ctx, k.t)
	if err != nil {
		return k.failed(err)
	}
	k.wasOff, k.looked = state == fleet.PowerIsOff, true
	if k.wasOff {
		return fine("not tried: the machine is off")
	}
	began := time.Now()
	_, err = k.c.Switch(ctx, k.t, fleet.PowerSoft)
	switch {
	case errors.Is(err, ErrUnsupported):
		k.need(func(q *fleet.BMCQuirks) { q.NoSoft = true })
		return k.unable("shut "+k.t.name()+" down from its own system", err)
	case errors.Is(err, ErrNoEffect):
		return warn("see whether a system runs on "+k.t.name()+" that heeds the power button", "the machine is still on after %s", round(time.Since(began)))
	case err != nil:
		return k.failed(err)
	}
	return fine("off after %s", round(time.Since(began)))
}

func (k *checkup) offAndOn(ctx context.Context) outcome {
	t := k.patient()
	began := time.Now()
	if err := k.c.PowerOff(ctx, t); err != nil {
		return k.failed(err)
	}
	off := time.Since(began)
	k.bootWhileOff(ctx)
	began = time.Now()
	if err := k.c.PowerOn(ctx, t); err != nil {
		return k.failed(err)
	}
	on := time.Since(began)
	usual := k.c.o.Settle
	if slowest := max(off, on); nearSettle*slowest > usual {
		k.need(func(q *fleet.BMCQuirks) { q.Settle = max(q.Settle, (settleFactor * slowest).Round(time.Second)) })
		return warn("nothing: keep its profile", "off after %s, on after %s: slow", round(off), round(on))
	}
	return fine("off after %s, on after %s", round(off), round(on))
}

// bootWhileOff tries the boot device once more when it could not be set while
// the machine was on.
func (k *checkup) bootWhileOff(ctx context.Context) {
	for i, r := range k.report.Results {
		if r.Check != "boot device" || r.Grade != fleet.BMCFailed {
			continue
		}
		var say string
		err := k.inTurn(ctx, func(ctx context.Context) (err error) {
			say, err = k.tryBoot(ctx)
			return err
		})
		if err == nil {
			k.need(func(q *fleet.BMCQuirks) { q.BootNeedsOff = true })
			r.Grade, r.Detail, r.Fix = fleet.BMCWarning, strings.TrimSuffix("network once, while the machine is off only; "+say, "; "), "nothing: keep its profile"
			k.report.Results[i] = r
		}
	}
}

func (k *checkup) reset(ctx context.Context) outcome {
	p := &power{c: k.c, target: k.t}
	err := k.c.change(ctx, "power reset", k.t, func(ctx context.Context) error { return p.press(ctx, reset) })
	switch {
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrRejected):
		k.need(func(q *fleet.BMCQuirks) { q.NoReset = true })
		return k.unable("nothing: with its profile, off and on are used instead", err)
	case err != nil:
		return k.failed(err)
	}
	return fine("is taken")
}

// restore leaves the machine as it was found.
func (k *checkup) restore(ctx context.Context) outcome {
	do, say := k.c.PowerOn, "on"
	if k.wasOff {
		do, say = k.c.PowerOff, "off"
	}
	if err := do(ctx, k.patient()); err != nil {
		return k.failed(err)
	}
	return fine("%s", say)
}

// putBack leaves the machine as it was found when the check is given up in
// between: nobody else knows that it was on.
func (k *checkup) putBack(ctx context.Context) {
	if !k.looked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.c.o.Settle)
	defer cancel()
	if out := k.restore(ctx); out.grade == fleet.BMCFailed {
		k.c.o.Log.ErrorContext(ctx, "machine not left as it was found by a check", "node", k.t.name(), "err", out.detail)
	}
}
