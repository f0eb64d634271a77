package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
)

// updateWithin is how long an update may take. The BMC may restart in between.
const updateWithin = 45 * time.Minute

// Update has a BMC fetch an image and install it for one component. It returns
// when the BMC's task is over; tell learns how far it is. Nobody else switches
// the machine meanwhile.
//
// keep gets the job whenever it has come further, and has stored it when it
// returns: before the BMC is asked, and when it has said which task it is. With
// a job that was kept the update is gone on with, and not begun again.
func (c *Controller) Update(ctx context.Context, t Target, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(percent int)) error {
	const op = "update firmware of"
	return c.changeBMC(ctx, op, t, func(ctx context.Context) error {
		if !t.Driver.Web() {
			return fmt.Errorf("%w: update firmware, by driver %q", ErrUnsupported, t.Driver)
		}
		ctx, cancel := context.WithTimeoutCause(ctx, updateWithin, fmt.Errorf("%w within %s", ErrNoEffect, updateWithin))
		defer cancel()
		u := &update{c: c, target: t, job: job, keep: keep}
		if err := u.begin(ctx); err != nil {
			return err
		}
		return u.follow(ctx, tell)
	})
}

// An update is one job of a BMC, as long as somebody is there to follow it.
type update struct {
	c      *Controller
	target Target
	job    fleet.FirmwareJob
	keep   func(fleet.FirmwareJob) error
}

// reach notes how far a job is.
func (u *update) reach(job fleet.FirmwareJob, s fleet.JobStage) (fleet.FirmwareJob, error) {
	job.Stage, job.At = s, time.Now().UTC()
	return job, u.keep(job)
}

// begin has the BMC begin, unless it has.
func (u *update) begin(ctx context.Context) error {
	switch u.job.Stage {
	case fleet.JobNew:
	case fleet.JobAsked:
		if found, err := u.find(ctx); found || err != nil {
			return err
		}
	default:
		return nil
	}
	said, err := talkRedfish(ctx, u.c, u.target, func(ctx context.Context, r *redfish) (asked, error) { return u.ask(ctx, r, u.job) })
	if said.refused != nil {
		return errors.Join(said.refused, u.keep(fleet.FirmwareJob{}))
	}
	u.job = said.job
	return cmp.Or(err, said.lost)
}

// unheard is how long after it was asked a BMC may take until its task is listed.
const unheard = time.Minute

// find looks whether a BMC has begun that was asked, and whose answer nobody got.
func (u *update) find(ctx context.Context) (bool, error) {
	if !u.job.Listed {
		return false, fmt.Errorf("%w: it was asked at %s, and lists no tasks", ErrUnclear, u.job.At.Format(time.RFC3339))
	}
	for {
		seen, err := talkRedfish(ctx, u.c, u.target, func(ctx context.Context, r *redfish) (sightedTask, error) { return r.newTask(ctx, u.job) })
		if err != nil {
			return false, err
		}
		if u.job.Task = seen.path; seen.path != "" {
			u.job, err = u.reach(u.job, fleet.JobRunning)
			return true, err
		}
		if seen.forgot {
			return false, fmt.Errorf("%w: it was asked at %s, and lists no tasks of that time any more", ErrUnclear, u.job.At.Format(time.RFC3339))
		}
		if time.Since(u.job.At) > unheard {
			return false, nil
		}
		if err := pause(ctx, u.c.o.TaskEvery); err != nil {
			return false, err
		}
	}
}

// asked is what came of asking a BMC: a job that it has begun, why it will not,
// or why we could not keep it, which is none of its faults.
type asked struct {
	job           fleet.FirmwareJob
	refused, lost error
}

// ask calls SimpleUpdate, and notes where the task is; "" when the service does
// not say.
func (u *update) ask(ctx context.Context, r *redfish, job fleet.FirmwareJob) (asked, error) {
	refuse := func(err error) (asked, error) { return asked{refused: reason(ctx, err)}, nil }
	call, err := r.simpleUpdate(ctx, job.FirmwareChange)
	if err != nil {
		return refuse(err)
	}
	job.Before, err = r.tasks(ctx)
	if job.Listed = err == nil; err != nil && !optional(ctx, err) {
		return refuse(err)
	}
	if job, err = u.reach(job, fleet.JobAsked); err != nil {
		return asked{lost: err}, nil //nolint:nilerr // it is in there, because it is none of the BMC's
	}
	job.Task, err = r.post(ctx, call.target, call.body)
	if said, ok := errors.AsType[*statusError](err); ok && said.status < 500 {
		return refuse(err)
	}
	if err == nil && job.Task == "" && job.Listed {
		var seen sightedTask
		seen, err = r.newTask(ctx, job)
		job.Task = seen.path
	}
	if err != nil {
		return asked{}, err
	}
	job, err = u.reach(job, fleet.JobRunning)
	return asked{job: job, lost: err}, nil
}

// mostRefusals is how often in a row a BMC that installs an image may refuse our
// password until we believe that it has another one: BMCs lock out who tries more.
const mostRefusals = 2

// follow asks after the task until it is over. One that has failed is forgotten:
// it can be begun again.
func (u *update) follow(ctx context.Context, tell func(percent int)) error {
	if u.job.Task == "" {
		return nil // whoever waits looks at the version
	}
	for refused := 0; ; {
		if err := pause(ctx, u.c.o.TaskEvery); err != nil {
			return err
		}
		over, err := u.c.askTask(ctx, u.target, u.job.Task, tell)
		if !errors.Is(err, ErrLogin) {
			refused = 0
		} else if refused++; refused < mostRefusals {
			continue // it may be starting
		}
		if errors.Is(err, ErrRejected) {
			err = errors.Join(err, u.keep(fleet.FirmwareJob{}))
		}
		if over || err != nil {
			return err
		}
	}
}
