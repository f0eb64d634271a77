package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/api"
)

// eachNode is what a command does to several nodes at the same time.
type eachNode struct {
	what      string // it is called, where it fails
	atOnce    int    // how many nodes at the same time
	title     string // of the column that says what they are now
	otherwise string // stands there for a node that failed
	do        func(ctx context.Context, ref string) (state string, err error)
}

// nodeResult is what became of one node.
type nodeResult struct {
	Node  string `json:"node"`
	State string `json:"state"`
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`

	err error
}

// each does it to all of them, and lists what became of them; one that fails
// does not stop the others.
func (a *app) each(ctx context.Context, refs []string, format string, e eachNode) error {
	results := make([]nodeResult, len(refs))
	var g errgroup.Group
	g.SetLimit(e.atOnce)
	for i, ref := range refs {
		g.Go(func() error {
			results[i] = e.one(ctx, ref)
			return nil
		})
	}
	_ = g.Wait() // each result has its own error
	var failed []error
	for _, r := range results {
		if errors.Is(r.err, context.Canceled) || isUnreachable(r.err) {
			return r.err // of our server: nobody else's fault
		}
		if r.err != nil {
			failed = append(failed, r.err)
		}
	}
	if len(refs) == 1 && len(failed) == 1 {
		return failed[0]
	}
	if err := e.listing(results).write(a.stdout, format); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &exitError{code: codeOfAll(failed, len(refs)), err: fmt.Errorf("%s failed for %d of %s", e.what, len(failed), plural(len(refs), "node"))}
	}
	return nil
}

// codeOfAll is the exit code for many nodes: that of the failure which all of them
// have in common, or else that some have failed.
func codeOfAll(failed []error, nodes int) int {
	code := exitCode(failed[0])
	if len(failed) < nodes || slices.ContainsFunc(failed, func(err error) bool { return exitCode(err) != code }) {
		return exitFailed
	}
	return code
}

func (e eachNode) one(ctx context.Context, ref string) nodeResult {
	state, err := e.do(ctx, ref)
	if err == nil {
		return nodeResult{Node: ref, State: state}
	}
	failed := nodeResult{Node: ref, State: e.otherwise, Error: err.Error(), Hint: hintOf(err), err: err}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		failed.Code = p.Code
	}
	return failed
}

func (e eachNode) listing(results []nodeResult) listing[nodeResult] {
	return listing[nodeResult]{
		items: results,
		name:  func(r nodeResult) string { return r.Node },
		columns: []column[nodeResult]{
			{"NODE", false, func(r nodeResult) string { return r.Node }},
			{e.title, false, func(r nodeResult) string { return r.State }},
			{"CODE", false, func(r nodeResult) string { return r.Code }},
			{"DETAIL", false, func(r nodeResult) string { return r.Error }},
			{"HINT", true, func(r nodeResult) string { return r.Hint }},
		},
	}
}
