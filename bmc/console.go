package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Console is a machine's serial console, as its BMC gives it to us. Read and
// Write are the line. It is safe for one reader and many writers.
type Console interface {
	io.ReadWriteCloser
	// Break holds the line, which Linux takes for the magic SysRq key.
	Break() error
	// BitRate is the speed between the BMC and the machine's serial port; 0 when
	// the BMC does not tell it. A machine that speaks at another one is garbage.
	BitRate() int
}

// ConsoleOptions say how a console is opened.
type ConsoleOptions struct {
	Take bool // from whoever has it
}

// OpenConsole opens a machine's serial console: over IPMI where the BMC has it,
// or else over SSH. Power and boot of the machine are not kept waiting while it
// is open.
func (c *Controller) OpenConsole(ctx context.Context, t Target, o ConsoleOptions) (Console, error) {
	const op = "open console of"
	if err := t.valid(); err != nil {
		return nil, invalid(op, t, err)
	}
	if !t.Driver.SignsIn() || t.Driver == fleet.DriverPDU || t.Driver == fleet.DriverAMT {
		return nil, trouble(op, t, fmt.Errorf("%w: a console by %s", ErrUnsupported, t.Driver))
	}
	g := c.gate(t)
	if err := g.breaker.allow(t, time.Now()); err != nil { // it is a login like any other
		return nil, trouble(op, t, err)
	}
	defer g.breaker.untried(t)
	console, err := c.openConsole(anew(ctx), t, g, o)
	if !t.Driver.Web() || !silent(err) { // else it is another service that is not there
		g.breaker.learn(err, time.Now())
	}
	if err != nil {
		return nil, trouble(op, t, err)
	}
	return console, nil
}

// openConsole tries the ways to a console, or goes the one that is known.
func (c *Controller) openConsole(ctx context.Context, t Target, g *gate, o ConsoleOptions) (Console, error) {
	via := t.Quirks.Console
	if via == "" {
		via = g.consoleWay("")
	}
	var console Console
	err := ErrUnsupported
	if via != fleet.ConsoleSSH {
		console, err = c.consoleBy(ctx, t, func(ctx context.Context) (Console, error) { return c.openSOL(ctx, t, g, o) })
	}
	if via == fleet.ConsoleSSH || via == "" && t.Driver.Web() && without(err) {
		overIPMI := err
		console, err = c.openOverSSH(anew(ctx), t)
		if errors.Is(err, ErrUnsupported) && via == "" {
			err = overIPMI // which says more
		}
	}
	if err != nil {
		return nil, err
	}
	if _, ok := console.(*sshConsole); ok {
		g.consoleWay(fleet.ConsoleSSH)
	} else {
		g.consoleWay(fleet.ConsoleIPMI)
	}
	return console, nil
}

// without reports whether a failure means that there is no IPMI, or none with a
// console.
func without(err error) bool {
	for _, none := range []error{ErrClosed, ErrNoAnswer, ErrCipher, ErrNoConsole, ErrUnsupported} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}

// openOverSSH asks the BMC's Redfish service how, and does it.
func (c *Controller) openOverSSH(ctx context.Context, t Target) (Console, error) {
	if !t.Driver.Web() {
		return nil, fmt.Errorf("%w: a console over SSH, which needs a Redfish service that says how", ErrUnsupported)
	}
	how, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (shell, error) { return r.consoleShell(ctx) })
	if err != nil {
		return nil, err
	}
	t.shell = true
	return c.consoleBy(ctx, t, func(ctx context.Context) (Console, error) { return c.openSSH(ctx, t, how) })
}

// consoleBy opens a console when it is the BMC's turn, within the time of one
// conversation.
func (c *Controller) consoleBy(ctx context.Context, t Target, open func(context.Context) (Console, error)) (Console, error) {
	g := c.gate(t)
	if err := c.admit(ctx, t, g); err != nil {
		return nil, err
	}
	defer c.leave(g)
	timeout := c.timeout(t)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w within %s", ErrNoAnswer, timeout))
	defer cancel()
	ctx, _ = withContact(ctx)
	ctx, taken := withLogin(ctx)
	console, err := open(ctx)
	err = t.legible(err)
	g.breaker.signed(t, classify(err), taken.Load(), time.Now())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err // and no console that is a nil pointer
	}
	return console, nil
}
