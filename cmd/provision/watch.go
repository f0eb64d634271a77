package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

const (
	lookFor     = time.Second            // to wait for a change before drawing anew
	breathe     = 250 * time.Millisecond // between two looks, however much changes
	patience    = 5 * time.Minute        // that a server may be away: it is restarted, the run goes on
	smallResult = 12                     // up to here every node is in the result
)

type watchOptions struct {
	format  string
	quiet   bool
	timeout time.Duration // 0: as long as it takes
	view    view
	plan    *api.Plan // that the run carries out, if we made it
}

// outcome is the result of `provision --pool` as data.
type outcome struct {
	Plan api.Plan `json:"plan"`
	Run  *api.Run `json:"run"` // null when there was nothing to do
}

// watch waits for a run and tells its result.
func (a *app) watch(ctx context.Context, srv server, run api.Run, o watchOptions) error {
	o.view.start(run, a.now())
	run, err := a.follow(ctx, srv, run, o)
	if err != nil {
		return a.detach(run.ID, o, err)
	}
	code := runExit(run)
	o.view.finish(run, a.now(), code)
	if err := a.result(run, o); err != nil {
		return err
	}
	return exit(code)
}

// follow looks at a run until it is over. A server that goes away and comes
// back does not end it.
func (a *app) follow(ctx context.Context, srv server, run api.Run, o watchOptions) (api.Run, error) {
	wait := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	seen, revision, away := a.now(), "", false
	for {
		next, err := srv.WaitRun(wait, run.ID, revision, lookFor)
		switch {
		case err == nil:
			run, seen, revision = next, a.now(), next.Revision
			if away {
				away = false
				o.view.note("", seen)
			}
		case wait.Err() != nil:
			return run, context.Cause(wait)
		case !isUnreachable(err) || a.now().Sub(seen) > patience:
			return run, err
		case !away:
			away = true
			o.view.note("the server does not answer; waiting for it", a.now())
		}
		o.view.update(run, a.now())
		if isOver(run) {
			return run, nil
		}
		if !sleep(wait, breathe) {
			return run, context.Cause(wait)
		}
	}
}

var errTimeout = errors.New("timed out")

// sleep waits, and reports whether there is a reason to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// detach ends the watching, not the run.
func (a *app) detach(id string, o watchOptions, err error) error {
	again := "watch it:  provision runs watch " + id
	switch {
	case errors.Is(err, errTimeout):
		return &exitError{code: exitTimeout, hint: again, err: fmt.Errorf("timed out after %s; run %s goes on", took(o.timeout), id)}
	case errors.Is(err, context.Canceled):
		return &exitError{code: exitInterrupted, hint: again, err: fmt.Errorf("detached; run %s goes on", id)}
	default:
		return err
	}
}

// result prints how a run ended.
func (a *app) result(run api.Run, o watchOptions) error {
	switch o.format {
	case "json", "yaml":
		var v any = run
		if o.plan != nil {
			v = outcome{*o.plan, &run}
		}
		return writeOne(a.stdout, o.format, v, run.ID, nil)
	case "jsonl":
		enc := json.NewEncoder(a.stdout)
		for _, n := range run.Nodes {
			if err := enc.Encode(n); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
		}
		return nil
	case "name", "csv":
		return a.runNodes(run, run.Nodes).write(a.stdout, o.format)
	}
	if o.quiet && runExit(run) == exitOK {
		return nil
	}
	a.writeResult(a.stdout, run, o.format)
	return nil
}

// writeResult tells a person how a run ended: the nodes that need a look (all
// of them when they are few), one line of counts, what to do next.
func (a *app) writeResult(w io.Writer, run api.Run, format string) {
	nodes := run.Nodes
	if len(nodes) > smallResult && format != "wide" {
		nodes = nil
		for _, n := range run.Nodes {
			if n.State != string(fleet.RunDone) {
				nodes = append(nodes, n)
			}
		}
	}
	if len(nodes) > 0 {
		_ = a.runNodes(run, nodes).write(w, format) // a table cannot fail
	}
	line := fmt.Sprintf("%d active", run.Done)
	if run.Failed > 0 {
		line += fmt.Sprintf(", %d failed", run.Failed)
	}
	if run.Held > 0 {
		line += fmt.Sprintf(", %d held", run.Held)
	}
	fmt.Fprintf(w, "%s in %s.\n", line, took(orNow(run.Ended, a.now()).Sub(run.Started)))
	if next := nextStep(run); next != "" {
		fmt.Fprintf(w, "Next:  %s\n", next)
	}
}

func nextStep(run api.Run) string {
	switch {
	case run.Failed > 0:
		return "provision nodes list state:failed        provision --pool " + run.Pool + "  tries again"
	case run.Held > 0:
		return "provision --pool " + run.Pool + " --dry-run        approve the held changes:  --yes"
	default:
		return ""
	}
}

func (a *app) runNodes(run api.Run, nodes []api.RunNode) listing[api.RunNode] {
	return listing[api.RunNode]{
		items: nodes,
		name:  nodeName,
		columns: []column[api.RunNode]{
			{"NODE", false, nodeName},
			{"STATE", false, func(n api.RunNode) string { return resultState(n) }},
			{"CLASS", true, func(n api.RunNode) string { return n.Class }},
			{"ROLE", true, func(n api.RunNode) string { return dash(n.Role) }},
			{"PHASE", true, func(n api.RunNode) string { return n.Phase }},
			{"TIME", false, func(n api.RunNode) string { return nodeTime(n, orNow(run.Ended, a.now())) }},
			{"DETAIL", false, resultDetail},
		},
	}
}

func nodeTime(n api.RunNode, now time.Time) string {
	if n.Started.IsZero() {
		return dash("")
	}
	return took(nodeTook(n, now))
}

// resultState calls a node that is done what it is now.
func resultState(n api.RunNode) string {
	if n.State == string(fleet.RunDone) {
		return string(fleet.Active)
	}
	return n.State
}

func resultDetail(n api.RunNode) string {
	switch {
	case isFailed(n):
		f := failureOf(n)
		return f.Code + "  " + f.Text
	case n.State == string(fleet.RunHeld):
		return n.Class + " needs approval"
	default:
		return n.Role
	}
}
