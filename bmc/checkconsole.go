package bmc

import (
	"context"
	"errors"
	"fmt"

	"github.com/rackstage/provision/fleet"
)

// console opens it and closes it again, by the ways that there are: by IPMI (SOL),
// and where the BMC speaks Redfish over SSH too. A way that is named is the only one.
// Most BMCs have one console, which is taken from who has it.
func (k *checkup) console(ctx context.Context) outcome {
	if k.o.ConsoleOpen {
		by := map[fleet.ConsoleVia]string{fleet.ConsoleIPMI: " by SOL", fleet.ConsoleSSH: " over SSH"}[k.c.gate(k.t).consoleWay("")]
		return fine("is open%s, and is left so", by)
	}
	via := k.t.Quirks.Console
	if via != "" || !k.t.Driver.Web() {
		say, err := k.opens(ctx, via)
		return k.consoleOutcome(say, err)
	}
	err := k.deaf
	var say string
	if err == nil {
		say, err = k.opens(ctx, fleet.ConsoleIPMI)
	}
	if k.deaf == nil && !without(err) {
		return k.consoleOutcome(say, err)
	}
	say, second := k.opens(ctx, fleet.ConsoleSSH)
	switch {
	case second == nil && silent(err): // which is found out each time
		return fine("%s; IPMI over LAN is off", say)
	case second == nil:
		k.need(func(q *fleet.BMCQuirks) { q.Console = fleet.ConsoleSSH })
		return warn("nothing: keep its profile", "%s; not by IPMI: %s", say, k.failed(err).detail)
	case without(second):
		return warn("allow serial over LAN, by IPMI, or SSH in the settings of the BMC of "+k.t.name(), "none: by IPMI, %s; over SSH, %s", k.failed(err).detail, k.failed(second).detail)
	}
	return k.consoleOutcome("", second)
}

func (k *checkup) consoleOutcome(say string, err error) outcome {
	switch {
	case errors.Is(err, ErrConsoleHeld):
		return k.unable("have whoever it is leave it, and check again", err)
	case errors.Is(err, ErrNoConsole), errors.Is(err, ErrConsoleRight):
		out := k.failed(err)
		return warn(out.fix, "%s", out.detail)
	case err != nil:
		return k.failed(err)
	}
	return fine("%s", say)
}

// opens opens the console by a way, and says how it is.
func (k *checkup) opens(ctx context.Context, via fleet.ConsoleVia) (say string, err error) {
	t := k.t
	t.Quirks.Console = via
	console, err := k.c.OpenConsole(ctx, t, ConsoleOptions{})
	if err != nil {
		return "", err
	}
	rate := console.BitRate()
	if err := console.Close(); err != nil {
		return "", err
	}
	if over, ok := console.(*sshConsole); ok {
		return "opens over SSH, host key " + over.HostKey(), nil
	}
	if rate == 0 {
		return "opens by SOL; its bit rate is not told", nil
	}
	return fmt.Sprintf("opens by SOL, %d bit/s", rate), nil
}
