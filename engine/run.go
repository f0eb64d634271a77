package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Start carries out the plan with the hash o.Plan, or returns the run that is
// doing so. Another run in the pool, or a plan that is not the current one
// any more, is a Conflict.
func (e *Engine) Start(ctx context.Context, actor string, pool fleet.PoolName, o fleet.StartOptions) (fleet.Run, error) {
	var run fleet.Run
	attached := false
	err := e.update(ctx, func(t *tx) error {
		plan, err := e.Plan(ctx, pool)
		if err != nil {
			return err
		}
		if plan.Run != "" {
			run, err = e.attach(plan, o)
			attached = true
			return err
		}
		if plan.Hash() != o.Plan {
			return &fleet.Error{
				Kind: fleet.Conflict, Code: "E-PLAN-STALE", Op: "start run", On: "pool " + string(pool),
				Err: errors.New("the plan has changed since it was shown"), Hint: "look at the new one: provision --pool " + string(pool) + " --dry-run",
			}
		}
		run = e.newRun(t.now, actor, plan, o)
		return t.begin(&run, plan)
	})
	if err == nil && !attached {
		e.Log.InfoContext(ctx, "run started", "run", run.ID, "pool", run.Pool, "nodes", len(run.Nodes), "actor", actor)
		e.launch(run.ID)
	}
	return run, err
}

func (e *Engine) attach(plan fleet.Plan, o fleet.StartOptions) (fleet.Run, error) {
	r, err := e.GetRun(plan.Run)
	if err != nil {
		return r, err
	}
	if r.Plan == o.Plan || (o.Key != "" && r.Key == o.Key) {
		return r, nil
	}
	return r, &fleet.Error{
		Kind: fleet.Conflict, Code: "E-RUN-ACTIVE", Op: "start run", On: "pool " + string(plan.Pool),
		Err: fmt.Errorf("run %s is under way with another plan", r.ID), Hint: "watch it: provision runs watch " + string(r.ID),
	}
}

func (e *Engine) newRun(now time.Time, actor string, plan fleet.Plan, o fleet.StartOptions) fleet.Run {
	r := fleet.Run{ID: e.nextRunID(plan.Pool), Pool: plan.Pool, Plan: plan.Hash(), Key: o.Key, Actor: actor, State: fleet.RunRunning, Started: now}
	for _, it := range plan.Items {
		if !it.Class.Changes() {
			continue
		}
		rn := fleet.RunNode{Node: it.Node, Class: it.Class, Name: it.Name, Role: it.Role, Disk: it.Disk, State: fleet.RunPending}
		if it.Class.Destructive() && !o.Destructive {
			rn.State = fleet.RunHeld
		}
		r.Nodes = append(r.Nodes, rn)
	}
	return r
}

// nextRunID counts the runs of a pool up: prd-0001, prd-0002, …
func (e *Engine) nextRunID(pool fleet.PoolName) fleet.RunID {
	last := 0
	for _, r := range e.Runs() {
		if num, ok := strings.CutPrefix(string(r.ID), string(pool)+"-"); ok {
			if n, err := strconv.Atoi(num); err == nil {
				last = max(last, n)
			}
		}
	}
	return fleet.RunID(fmt.Sprintf("%s-%04d", pool, last+1))
}

// begin gives the run's nodes to it.
func (t *tx) begin(r *fleet.Run, plan fleet.Plan) error {
	t.putRun(*r)
	for _, rn := range r.Nodes {
		if rn.State == fleet.RunHeld {
			continue
		}
		n, err := t.node(rn.Node)
		if err != nil {
			return err
		}
		n.Run, n.Name, n.Role, n.Failure, n.Progress = r.ID, rn.Name, rn.Role, fleet.Failure{}, 0
		n.Phase = ""
		t.put(n)
	}
	t.events = append(t.events, fleet.Event{
		Type: fleet.EventRun, Pool: r.Pool, Run: r.ID, Actor: r.Actor,
		Text: fmt.Sprintf("started: %d add, %d join, %d keep, %d skip", plan.Count(fleet.Add), plan.Count(fleet.Join), plan.Count(fleet.Keep), plan.Count(fleet.Skip)),
	})
	return nil
}

// launch works on a run until it is over or the engine stops.
func (e *Engine) launch(id fleet.RunID) {
	e.runs.Go(func() {
		ctx := e.running
		if err := e.carryOut(ctx, id); err != nil && ctx.Err() == nil {
			e.Log.ErrorContext(ctx, "run stopped", "run", id, "err", err)
		}
	})
}

func (e *Engine) carryOut(ctx context.Context, id fleet.RunID) error {
	r, err := e.GetRun(id)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, e.Parallel)
	for _, rn := range r.Nodes {
		if rn.State.Over() || rn.State == fleet.RunHeld {
			continue
		}
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				e.work(ctx, id, rn.Node)
			case <-ctx.Done():
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the server is stopping; the next one goes on
	}
	return e.endBatch(ctx, r)
}

// finish closes a run whose nodes are all over.
func (e *Engine) finish(ctx context.Context, id fleet.RunID) error {
	return e.update(ctx, func(t *tx) error {
		r, err := t.run(id)
		if err != nil {
			return err
		}
		done, failed, _ := r.Counts()
		r.State, r.Ended = fleet.RunDone, t.now
		if failed > 0 {
			r.State = fleet.RunFailed
		}
		t.putRun(r)
		t.events = append(t.events, fleet.Event{
			Type: fleet.EventRun, Pool: r.Pool, Run: r.ID, Actor: "engine",
			Text: fmt.Sprintf("ended: %d active, %d failed in %s", done, failed, t.now.Sub(r.Started).Round(time.Second)),
		})
		return nil
	})
}
