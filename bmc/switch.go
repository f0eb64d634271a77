package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rackstage/provision/fleet"
)

// A power is one operation on a machine's power. It keeps the first and the
// last state that was seen, under a lock: a conversation may go on after it has
// been given up.
type power struct {
	c      *Controller
	target Target

	mu            sync.Mutex
	before, after fleet.PowerState
}

func (p *power) seen() fleet.Switched {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fleet.Switched{Before: cmp.Or(p.before, fleet.PowerIsUnknown), After: cmp.Or(p.after, fleet.PowerIsUnknown)}
}

func (p *power) look(ctx context.Context, l line) (fleet.PowerState, error) {
	state, err := l.power(ctx)
	if err != nil {
		return state, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = cmp.Or(p.before, state), state
	return state, nil
}

func (p *power) do(ctx context.Context, op fleet.PowerOp) error {
	switch op {
	case fleet.PowerOn:
		if p.target.Driver == fleet.DriverWOL { // which shows nothing that could be read back
			return p.press(ctx, turnOn)
		}
		return p.reach(ctx, turnOn)
	case fleet.PowerOff:
		if p.target.Driver == fleet.DriverWOL {
			return p.press(ctx, turnOff)
		}
		return p.reach(ctx, turnOff)
	case fleet.PowerCycle:
		return p.offAndOn(ctx)
	case fleet.PowerSoft:
		return p.softly(ctx)
	case fleet.PowerReset:
		err := p.press(ctx, reset)
		if errors.Is(err, ErrUnsupported) {
			return p.offAndOn(ctx)
		}
		return err
	case fleet.PowerNMI:
		return p.press(ctx, diagnose)
	default:
		return fmt.Errorf("%w: power %q", ErrUnsupported, op)
	}
}

func (p *power) offAndOn(ctx context.Context) error {
	if err := p.reach(ctx, turnOff); err != nil {
		return err
	}
	if p.target.Driver == fleet.DriverPDU { // its supplies hold some charge
		if err := pause(ctx, p.c.o.Discharge); err != nil {
			return err
		}
	}
	return p.reach(ctx, turnOn)
}

// reach brings the power to a state.
func (p *power) reach(ctx context.Context, a action) error {
	want := map[action]fleet.PowerState{turnOn: fleet.PowerIsOn, turnOff: fleet.PowerIsOff}[a]
	return p.c.converge(ctx, p.target, func(ctx context.Context, l line, order bool) (bool, error) {
		state, err := p.look(ctx, l)
		if err != nil || state == want || !order {
			return state == want, err
		}
		if err := l.order(ctx, a); err != nil {
			return false, err
		}
		state, err = p.look(ctx, l)
		return state == want, err
	})
}

// softFactor is how many times the usual a system may take to shut down.
const softFactor = 3

// softly asks the system to shut down, once, and waits until it has. Systems
// take their time, and some do not listen.
func (p *power) softly(ctx context.Context) error {
	if p.target.Quirks.NoSoft {
		return fmt.Errorf("%w: it does not ask systems to shut down", ErrUnsupported)
	}
	t := p.target
	t.Quirks.Settle = softFactor * p.c.settle(t)
	var asked, taken atomic.Bool
	var refusal atomic.Pointer[error] // some refuse, and do it all the same
	err := p.c.converge(ctx, t, func(ctx context.Context, l line, _ bool) (bool, error) {
		state, err := p.look(ctx, l)
		if err != nil || state == fleet.PowerIsOff || asked.Swap(true) {
			return err == nil && state == fleet.PowerIsOff, err
		}
		err = l.order(ctx, softOff)
		if err != nil {
			err = softOff.unanswered(reason(ctx, err))
			refusal.Store(&err)
		}
		taken.Store(err == nil)
		return false, err
	})
	said := refusal.Load()
	switch {
	case said != nil && errors.Is(err, ErrNoEffect):
		return *said
	case errors.Is(err, ErrNoEffect):
		return fmt.Errorf("%w: its system does not shut down when asked", err)
	case asked.Load() && !taken.Load():
		return softOff.unanswered(err)
	}
	return err
}

// press gives an order that leaves the machine on, once: it leaves no trace that
// could be read back, and doing it twice is not the same as doing it once.
func (p *power) press(ctx context.Context, a action) error {
	if a == reset && p.target.Quirks.NoReset {
		return fmt.Errorf("%w: reset", ErrUnsupported)
	}
	var given atomic.Bool
	_, err := talk(ctx, p.c, p.target, func(ctx context.Context, l line) (none struct{}, err error) {
		state, err := p.look(ctx, l)
		switch {
		case err != nil:
			return none, err
		case state == fleet.PowerIsOff && a == reset:
			return none, fmt.Errorf("%w: reset while it is off", ErrUnsupported)
		case state == fleet.PowerIsOff:
			return none, fmt.Errorf("%w: it is off", ErrRejected)
		}
		given.Store(true)
		return none, l.order(ctx, a)
	})
	if given.Load() {
		return a.unanswered(err)
	}
	return err
}
