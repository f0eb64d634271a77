package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rackstage/provision/fleet"
)

// A job is one node's part of one run.
type job struct {
	e     *Engine
	run   fleet.RunID
	node  fleet.NodeID
	again bool // a boot that came to a stand was begun again: the next one is left to its deadline
}

// A phaseWork is what a program does in one phase.
type phaseWork struct {
	phase fleet.Phase
	limit time.Duration // deadline of one attempt
	tries int           // attempts before the node fails
	do    func(j job, ctx context.Context) error
}

// program is the way of a node from blank to active. A phase is entered only
// when the one before it is done, and may be entered again after a restart of
// the server: each function first looks whether its work is done already.
func program() []phaseWork {
	return []phaseWork{
		{fleet.PhaseFirmware, 4 * time.Hour, 2, job.firmware},
		{fleet.PhaseBIOS, 45 * time.Minute, 2, job.bios},
		{fleet.PhasePower, 3 * time.Minute, 3, job.power},
		{fleet.PhaseHello, 12 * time.Minute, 2, job.hello},
		{fleet.PhaseDisk, 3 * time.Minute, 2, job.disk},
		{fleet.PhaseWrite, 40 * time.Minute, 2, job.write},
		{fleet.PhaseSeed, 5 * time.Minute, 2, job.seed},
		{fleet.PhaseReboot, 5 * time.Minute, 2, job.reboot},
		{fleet.PhaseFirstBoot, 15 * time.Minute, 2, job.firstBoot},
		{fleet.PhaseDocker, 10 * time.Minute, 2, job.docker},
		{fleet.PhaseJoin, 30 * time.Minute, 3, job.join},
		{fleet.PhaseActive, 5 * time.Minute, 3, job.activate},
	}
}

// rewinds says from which phase a node starts over when the machine was
// restarted, or never came, in a phase.
var rewinds = map[fleet.Phase]fleet.Phase{
	fleet.PhaseHello: fleet.PhasePower,
	fleet.PhaseDisk:  fleet.PhaseHello, // a restart in the ramdisk: take the new session
	fleet.PhaseWrite: fleet.PhaseDisk,
	fleet.PhaseSeed:  fleet.PhaseDisk,
	fleet.PhaseJoin:  fleet.PhaseDocker,
}

// work carries out a node's program from its checkpoint on.
func (e *Engine) work(ctx context.Context, run fleet.RunID, node fleet.NodeID) {
	j := job{e: e, run: run, node: node}
	server := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := e.stopWhenQuarantined(ctx, node, cancel)
	defer stop()

	e.awaitHands(ctx, node)
	phases := program()
	at, err := j.carryOn(ctx, phases)
	if server.Err() != nil {
		return // the server is stopping, whyever: the checkpoint stays
	}
	if err != nil {
		j.clearDrive(context.WithoutCancel(ctx))
	}
	j.end(context.WithoutCancel(ctx), phases, at, err)
}

// carryOn goes through the phases until the last is done or one fails for
// good. It returns the phase that it came to.
func (j job) carryOn(ctx context.Context, phases []phaseWork) (int, error) {
	at, attempt, err := j.checkpoint(ctx, phases)
	if err != nil {
		return at, err
	}
	// Attempts are counted by phase, because a rewind passes phases again. The
	// one under way when the server was killed keeps its number, and with it
	// the IDs of its steps.
	attempts := map[fleet.Phase]int{phases[min(at, len(phases)-1)].phase: attempt - 1}
	for at < len(phases) {
		s := phases[at]
		if !j.wants(s.phase) {
			at++
			continue
		}
		attempts[s.phase]++
		err := j.attempt(ctx, s, attempts[s.phase])
		if err == nil {
			at++
			continue
		}
		switch still, stands := errors.AsType[*standstill](err); {
		case context.Cause(ctx) != nil, attempts[s.phase] >= s.tries && !stands, final(err):
			return at, err
		case stands:
			j.sayAnew(ctx, still)
			j.again = true
			attempts[s.phase]-- // slow firmware needs its tries
			delete(attempts, fleet.PhasePower)
		default:
			j.e.Log.WarnContext(ctx, "step repeated", "node", j.node, "phase", s.phase, "attempt", attempts[s.phase], "err", err)
			if err := pause(ctx, attempts[s.phase]); err != nil {
				return at, err
			}
		}
		at = rewind(phases, at)
	}
	return at, nil
}

func rewind(phases []phaseWork, at int) int {
	to, ok := rewinds[phases[at].phase]
	if !ok {
		return at
	}
	return slices.IndexFunc(phases, func(s phaseWork) bool { return s.phase == to })
}

// pause waits a little longer before each attempt.
func pause(ctx context.Context, attempt int) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 2 * time.Second
	var wait time.Duration
	for range attempt {
		wait = b.NextBackOff()
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// final reports whether trying again is of no use, or would do harm.
func final(err error) bool {
	switch fleet.CodeOf(err) {
	case "E-DISK-NONE", "E-DISK-SMALL", "E-DISK-OTHER", "E-DISK-READONLY", "E-DISK-HOLDS", "E-CHUNK-CORRUPT", "E-TRUST",
		"E-BMC-NONE", fleet.CodeBMCLogin, fleet.CodeBMCDenied, fleet.CodeBMCCipher, fleet.CodeBMCPin, fleet.CodeBMCNotProbed, fleet.CodeBMCSeveral, fleet.CodeBMCUnsupported, fleet.CodeBMCUnclear,
		fleet.CodeMediaNone, fleet.CodeMediaImage, "E-IMAGE", "E-CLUSTER-NO-MANAGER", "E-CLUSTER-FOREIGN":
		return true
	}
	return false
}

// attempt enters a phase, keeps that, and does its work within its deadline.
func (j job) attempt(ctx context.Context, s phaseWork, attempt int) error {
	if err := j.enter(ctx, s.phase, attempt); err != nil {
		return err
	}
	late := &fleet.Error{Kind: fleet.Unreachable, Code: "E-TIMEOUT", Op: string(s.phase), Err: fmt.Errorf("not done within %s", s.limit), Hint: "look at its serial console, then start the run again"}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, late)
	defer cancel()
	return s.do(j, ctx)
}

// checkpoint returns the phase to go on with.
func (j job) checkpoint(ctx context.Context, phases []phaseWork) (at, attempt int, err error) {
	err = j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		return t.runNode(j.run, j.node, func(rn *fleet.RunNode) {
			at = slices.IndexFunc(phases, func(s phaseWork) bool { return s.phase == rn.Phase })
			attempt = max(rn.Attempt, 1)
			if rn.State == fleet.RunPending {
				rn.State, rn.Started = fleet.RunRunning, t.now
				at = firstPhase(phases, rn.Class)
				if rn.Class != fleet.Join {
					n.State = fleet.Installing
				}
			}
			at = max(at, 0)
			t.put(n)
		})
	})
	return at, attempt, err
}

// firstPhase is where a class enters the program: a node that is installed
// already needs no power cycle.
func firstPhase(phases []phaseWork, c fleet.Class) int {
	if c != fleet.Join {
		return 0
	}
	return slices.IndexFunc(phases, func(s phaseWork) bool { return s.phase == fleet.PhaseFirstBoot })
}

func (j job) enter(ctx context.Context, phase fleet.Phase, attempt int) error {
	return j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		// The phases of the boot firmware come by evidence, inside of hello.
		if phase != fleet.PhaseHello {
			n.Phase, n.Progress = phase, 0
		}
		t.put(n)
		return t.runNode(j.run, j.node, func(rn *fleet.RunNode) {
			rn.Phase, rn.Attempt = phase, attempt
			if phase == fleet.PhasePower { // a new boot
				rn.Times = slices.DeleteFunc(rn.Times, func(p fleet.PhaseTime) bool { return !p.Phase.Setup() })
			}
		})
	})
}

// reached notes that a phase is done.
func (j job) reached(ctx context.Context, phase fleet.Phase) error {
	return j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		return t.reach(n, phase)
	})
}

// end closes the node's part of the run.
func (j job) end(ctx context.Context, phases []phaseWork, at int, cause error) {
	err := j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		state := fleet.RunDone
		if cause != nil {
			state = fleet.RunFailed
			n.Failure = failure(phases[min(at, len(phases)-1)].phase, n.Phase, cause)
			n.Failure.Console = j.e.lastWords(n.ID)
			if fleet.CanFollow(n.State, fleet.Failed) {
				n.State = fleet.Failed
			}
			t.event(fleet.EventFailed, n, "engine", fmt.Sprintf("%s %s: %s", n.Failure.Code, n.Failure.Phase, n.Failure.Text))
		} else {
			t.event(fleet.EventChanged, n, "engine", "active in "+string(n.Pool))
		}
		if err := t.runNode(j.run, j.node, func(rn *fleet.RunNode) {
			rn.State, rn.Ended, rn.Failure = state, t.now, n.Failure
		}); err != nil {
			return err
		}
		n.Run = ""
		t.put(n)
		return nil
	})
	if err != nil {
		j.e.Log.ErrorContext(ctx, "end of node's run not stored", "node", j.node, "run", j.run, "err", err)
	}
}

// hints are what to do about failures that come without one: an agent knows
// what is wrong, and not what there is to be done about it here.
var hints = map[fleet.Code]string{
	"E-DISK-OTHER":    "nothing was written; look at its disks: provision nodes show NODE, then plan again",
	"E-DISK-SMALL":    "nothing was written; name a larger disk in the pool's profile, or change the machine's",
	"E-DISK-NONE":     "nothing was written; check cabling and the mode of the disk controller",
	"E-DISK-READONLY": "nothing was written; take the write protection off, or name another disk in the profile",
	"E-DISK-BUSY":     "nothing was written; start the run again, the machine will be restarted",
	"E-DISK-IO":       "the disk fails: look at its SMART data and change it",
	"E-CHUNK-CORRUPT": "the image store is damaged: provision images verify, then build or import the image again",
	"E-CHUNK-MISSING": "the image store is damaged: provision images verify, then build or import the image again",
	"E-DOCKER":        "on the node: systemctl status docker",
	"E-JOIN":          "check that the node reaches the manager on TCP 2377 and that its clock is right, then start the run again",
	"E-STATE":         "look at the node: provision nodes show NODE",
	"E-INTERNAL":      "this is our fault: look into the server's log",
}

func failure(phase, seen fleet.Phase, err error) fleet.Failure {
	if phase == fleet.PhaseHello && seen != "" {
		phase = seen // say how far the firmware got
	}
	code := fleet.CodeOf(err)
	if code == "" {
		code = "E-INTERNAL"
	}
	return fleet.Failure{Code: code, Phase: phase, Text: err.Error(), Hint: cmp.Or(fleet.HintOf(err), hints[code])}
}

// stopWhenQuarantined ends a node's program as soon as its identity is in
// doubt.
func (e *Engine) stopWhenQuarantined(ctx context.Context, id fleet.NodeID, cancel context.CancelCauseFunc) func() {
	done := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			changed := e.world.watch()
			if n, ok := e.world.node(id); ok && n.State == fleet.Quarantined {
				cancel(&fleet.Error{Kind: fleet.Denied, Code: n.Failure.Code, Err: errors.New(n.Failure.Text), Hint: n.Failure.Hint})
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-gone }
}
