package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rackstage/provision/api"
)

// approve finds out how much of a plan may start: nothing (an error), the
// safe changes, or (destructive) all of it.
func (a *app) approve(ctx context.Context, plan api.Plan, o runOptions, view view) (destructive bool, err error) {
	safe, held := planChanges(plan)
	ask := a.terminal && !o.yes
	if ask || view.wantsPlan() {
		writePlan(a.stderr, plan, planStyle{server: a.serverTitle(), approved: o.yes})
	}
	switch {
	case o.yes:
		return held > 0, nil
	case ask:
		return a.ask(ctx, plan.Pool, safe, held)
	case safe == 0:
		view.start(api.Run{Pool: plan.Pool}, a.now())
		return false, &exitError{
			code: exitHeld,
			err:  fmt.Errorf("pool %s: %s held for approval and there is no terminal to ask on", plan.Pool, areHeld(held)),
			hint: fmt.Sprintf("review:  provision --pool %s --dry-run      approve:  --yes", plan.Pool),
		}
	default:
		return false, nil
	}
}

func areHeld(n int) string {
	if n == 1 {
		return "1 change is"
	}
	return fmt.Sprintf("%d changes are", n)
}

// ask puts the one question of a run. What would touch what a disk holds
// starts only when the pool's name was typed.
func (a *app) ask(ctx context.Context, pool string, safe, held int) (destructive bool, err error) {
	switch {
	case safe == 0:
		fmt.Fprintf(a.stderr, "Type %q to start the %s too, anything else leaves it as it is: ", pool, plural(held, "held change"))
	case held > 0:
		fmt.Fprintf(a.stderr, "Start the %s? [Y/n, or type %q to start the %d held too] ", plural(safe, "safe change"), pool, held)
	default:
		fmt.Fprintf(a.stderr, "Start the %s? [Y/n] ", plural(safe, "safe change"))
	}
	answer, err := a.answer(ctx)
	if err != nil {
		return false, err
	}
	if held > 0 && answer == pool {
		return true, nil
	}
	switch strings.ToLower(answer) {
	case "", "y", "yes":
		if safe > 0 {
			return false, nil
		}
	}
	return false, &exitError{code: exitUnapproved, err: errors.New("declined: nothing was changed")}
}

// answer reads one line. The end of input is a no, and so is Ctrl-C.
func (a *app) answer(ctx context.Context) (string, error) {
	type reply struct {
		line string
		err  error
	}
	replies := make(chan reply, 1)
	go func() { // a read from a terminal cannot be interrupted: it ends with the program
		line, err := a.stdin.ReadString('\n')
		replies <- reply{line, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return "", &exitError{code: exitInterrupted, err: errors.New("interrupted: nothing was changed")}
	case r := <-replies:
		if r.err != nil && r.line == "" {
			fmt.Fprintln(a.stderr)
			return "", &exitError{code: exitUnapproved, err: errors.New("no answer: nothing was changed")}
		}
		return strings.TrimSpace(r.line), nil
	}
}

// confirm asks a plain yes or no; --yes answers it. Without a terminal there
// is nobody to ask.
func (a *app) confirm(ctx context.Context, question, what string, yes bool) error {
	if yes {
		return nil
	}
	if !a.terminal {
		return &exitError{code: exitUnapproved, err: fmt.Errorf("%s needs approval and there is no terminal to ask on", what), hint: "approve:  --yes"}
	}
	fmt.Fprintf(a.stderr, "%s [Y/n] ", question)
	answer, err := a.answer(ctx)
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "", "y", "yes":
		return nil
	default:
		return &exitError{code: exitUnapproved, err: errors.New("declined: nothing was changed")}
	}
}
