package bmc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
)

// leisurely is how long a checkup may take. BMCs are slow, and say everything
// one by one.
const leisurely = 90 * time.Second

// Examine reads what a BMC says about its machine. It gives way to everybody
// else who wants to talk to that BMC, with [ErrGaveWay]. Only when all is true
// is what seldom changes read too.
func (c *Controller) Examine(ctx context.Context, t Target, all bool) (fleet.Checkup, error) {
	const op = "examine"
	if err := t.valid(); err != nil {
		return fleet.Checkup{}, invalid(op, t, err)
	}
	t.leisure = leisurely
	found, err := c.examine(ctx, t, all)
	if err != nil {
		return fleet.Checkup{}, trouble(op, t, err)
	}
	found.At = time.Now().UTC()
	found.Via = t.Driver
	if all {
		found.Hardware.At = found.At
	}
	return found.Bounded(), nil
}

func (c *Controller) examine(ctx context.Context, t Target, all bool) (fleet.Checkup, error) {
	switch {
	case byIPMI(t):
		return examineIPMI(ctx, c, t, all)
	case t.Driver.Web():
		return talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (fleet.Checkup, error) {
			s, err := r.findSystem(ctx)
			if err != nil {
				return fleet.Checkup{}, err
			}
			return (&survey{system: s}).take(ctx, all)
		})
	}
	return fleet.Checkup{}, fmt.Errorf("%w: say how the machine is, by driver %q", ErrUnsupported, t.Driver)
}

// byIPMI reports whether the target is spoken to by IPMI. The other drivers
// that sign in are of BMCs that speak Redfish too.
func byIPMI(t Target) bool {
	return t.Driver == fleet.DriverIPMI || t.Driver == fleet.DriverIPMITool || t.Driver == ""
}

// ClearLog empties a BMC's event log, and sees that what was in it is gone.
func (c *Controller) ClearLog(ctx context.Context, t Target) error {
	const op = "clear event log of"
	if err := t.valid(); err != nil {
		return invalid(op, t, err)
	}
	return c.changeBMC(ctx, op, t, func(ctx context.Context) (err error) {
		switch {
		case byIPMI(t):
			return clearSEL(ctx, c, t)
		case t.Driver.Web():
			_, err = talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (none struct{}, err error) {
				s, err := r.findSystem(ctx)
				if err != nil {
					return none, err
				}
				return none, (&survey{system: s}).clearLog(ctx)
			})
			return err
		}
		return fmt.Errorf("%w: clear an event log, by driver %q", ErrUnsupported, t.Driver)
	})
}

// optional reports whether an error only says that a BMC does not have what it
// was asked for, or has it broken: the rest of a checkup goes on.
func optional(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, ErrUnsupported) || errors.Is(err, ErrRejected) || errors.Is(err, ErrDenied))
}
