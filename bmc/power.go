package bmc

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Power asks whether a machine is on.
func (c *Controller) Power(ctx context.Context, t Target) (fleet.PowerState, error) {
	const op = "read power of"
	if err := t.valid(); err != nil {
		return fleet.PowerIsUnknown, invalid(op, t, err)
	}
	state, err := talk(ctx, c, t, func(ctx context.Context, l line) (fleet.PowerState, error) { return l.power(ctx) })
	if err != nil {
		return fleet.PowerIsUnknown, trouble(op, t, err)
	}
	return state, nil
}

// PowerOn switches a machine on and returns when it is.
func (c *Controller) PowerOn(ctx context.Context, t Target) error {
	_, err := c.Switch(ctx, t, fleet.PowerOn)
	return err
}

// PowerOff switches a machine off, whatever it is doing, and returns when it is.
func (c *Controller) PowerOff(ctx context.Context, t Target) error {
	_, err := c.Switch(ctx, t, fleet.PowerOff)
	return err
}

// PowerCycle switches a machine off, sees that it is, and switches it on. The
// BMC's own cycle is never used: repeated too early it ends in "off", and some
// refuse it when the machine is off already.
func (c *Controller) PowerCycle(ctx context.Context, t Target) error {
	_, err := c.Switch(ctx, t, fleet.PowerCycle)
	return err
}

// Switch does an operation on a machine's power and returns when it is done, as
// the BMC shows it: what the power was, and what it is.
func (c *Controller) Switch(ctx context.Context, t Target, op fleet.PowerOp) (fleet.Switched, error) {
	if op == fleet.PowerStatus {
		state, err := c.Power(ctx, t)
		return fleet.Switched{Before: state, After: state}, err
	}
	p := &power{c: c, target: t}
	err := c.change(ctx, "power "+string(op), t, func(ctx context.Context) error { return p.do(ctx, op) })
	return p.seen(), err
}

// change does something to a machine, one at a time.
func (c *Controller) change(ctx context.Context, op string, t Target, f func(context.Context) error) error {
	return c.changeAt(ctx, op, t, t.changeKey(), f)
}

// changeBMC does something to a BMC, while none of the machines behind it is changed.
func (c *Controller) changeBMC(ctx context.Context, op string, t Target, f func(context.Context) error) error {
	return c.changeAt(ctx, op, t, t.key(), f)
}

func (c *Controller) changeAt(ctx context.Context, op string, t Target, key string, f func(context.Context) error) error {
	if err := t.valid(); err != nil {
		return invalid(op, t, err)
	}
	g := c.gate(t)
	if err := g.breaker.allow(t, time.Now()); err != nil {
		return trouble(op, t, err)
	}
	defer g.breaker.untried(t)
	own, whole := c.gateOf(key), g
	if t.Driver == fleet.DriverPDU { // whose outlets have nothing to do with one another
		whole = own
	}
	end, err := c.queue(ctx, t, own, whole)
	if err != nil {
		return trouble(op, t, err)
	}
	defer end()
	ctx, _ = withContact(ctx)
	err = f(ctx)
	g.breaker.learn(err, time.Now())
	return trouble(op, t, err)
}

// queue waits for the change before ours, at most as long as that may take: a cycle is
// two, and a system takes its time to shut down. One of many machines behind a BMC waits
// for some of the others' too.
func (c *Controller) queue(ctx context.Context, t Target, g, bmc *gate) (end func(), err error) {
	longest := time.Duration(softFactor)
	if g != bmc {
		longest = 2 * machinesAtOnce
	}
	ctx, cancel := context.WithTimeoutCause(ctx, longest*c.settle(t)+c.timeout(t), ErrBusy)
	defer cancel()
	end, err = g.turn(ctx, bmc)
	if errors.Is(err, context.DeadlineExceeded) { // who asks has no more time, and it is not the BMC that is silent
		err = ErrBusy
	}
	return end, err
}

// settle is how long a change may take to become true.
func (c *Controller) settle(t Target) time.Duration { return cmp.Or(t.Quirks.Settle, c.o.Settle) }

// How often a BMC is looked at, and given the same order again. BMCs swallow
// orders that come while the power is changing.
const (
	firstLook   = 500 * time.Millisecond
	longestLook = 2 * time.Second
	firstRepeat = 5 * time.Second
	mostRefused = 4
)

// A step looks whether something is as it shall be, gives the order first or
// in between when told to, and reports whether it is so now.
type step func(ctx context.Context, l line, order bool) (bool, error)

// converge repeats a step, in conversations of their own, until it reports
// that all is as it shall be. Before the BMC has let us in once, an error is
// final: a dead one is named soon. After that it may fall silent for a while,
// as some do when the power changes.
func (c *Controller) converge(ctx context.Context, t Target, f step) error {
	ctx, cancel := context.WithTimeout(ctx, c.settle(t))
	defer cancel()
	ctx, came := withContact(ctx)
	var (
		look, repeat = firstLook, firstRepeat
		next         = time.Now()
		last         = ErrNoAnswer
		refused      int
		heard        bool // a conversation came to its end
	)
	for {
		order := !time.Now().Before(next)
		done, err := talk(ctx, c, t, func(ctx context.Context, l line) (bool, error) { return f(ctx, l, order) })
		if done {
			return nil
		}
		if !ending(ctx) { // else it is our own deadline that it has failed at
			last = err
		}
		if errors.Is(err, ErrRejected) {
			refused++
			order = false // it may be busy: once more, at the next look
		}
		heard = heard || err == nil
		late := errors.Is(err, ErrSlow) && !heard
		if err != nil && (!came.admitted.Load() || !passing(err) || late || refused == mostRefused) {
			return err
		}
		if order { // taken, as far as we know
			next, repeat = time.Now().Add(repeat), 2*repeat
		}
		if pause(ctx, look) != nil {
			return verdict(ctx, last)
		}
		look = min(2*look, longestLook)
	}
}

// ending reports whether time is up, or as good as: libraries see a deadline a
// moment before the context does.
func ending(ctx context.Context) bool {
	const moment = 200 * time.Millisecond
	at, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && time.Until(at) < moment
}

// verdict says why time is up: the last conversation failed, or else the BMC
// took the order and did not follow it.
func verdict(ctx context.Context, last error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case last != nil:
		return last
	}
	return ErrNoEffect
}

// passing reports whether a trouble may go away by itself.
func passing(err error) bool {
	return errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrHangs) || errors.Is(err, ErrSlow) || errors.Is(err, ErrSessions) || errors.Is(err, ErrRejected) ||
		errors.Is(err, context.DeadlineExceeded)
}
