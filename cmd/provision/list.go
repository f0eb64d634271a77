package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// A lister is a command that lists things, in every format.
type lister[T any] struct {
	use, short, example string
	args                cobra.PositionalArgs // nil: none
	flags               func(cmd *cobra.Command)

	ask  func(ctx context.Context, srv server, args []string) ([]T, error)
	read func(cmd *cobra.Command) ([]T, error) // in place of ask: without a server

	show func([]T) listing[T]
	tell func([]T) string // what a person is told below the table; may be nil
}

// newListCmd makes the command.
func newListCmd[T any](a *app, l lister[T]) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: l.use, Short: l.short, Example: l.example, Args: l.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			items, err := l.items(a, cmd, args)
			if err != nil {
				return err
			}
			if err := l.show(items).write(a.stdout, format); err != nil {
				return err
			}
			if l.tell != nil && (format == "table" || format == "wide") {
				if said := l.tell(items); said != "" {
					fmt.Fprintln(a.stderr, said)
				}
			}
			return nil
		},
	}
	if l.args == nil {
		cmd.Args = cobra.NoArgs
	}
	if l.flags != nil {
		l.flags(cmd)
	}
	addOutput(cmd, &format)
	return cmd
}

// asking completes a command that asks the server: its answer can be had in
// every format.
func (a *app) asking(cmd *cobra.Command, do func(ctx context.Context, srv server, args []string, format string) error) *cobra.Command {
	var format string
	ask := a.doing(func(ctx context.Context, srv server, args []string) error { return do(ctx, srv, args, format) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(format); err != nil {
			return err
		}
		return ask(cmd, args)
	}
	addOutput(cmd, &format)
	return cmd
}

// doing is what a command does with the server, when its answer is no list.
func (a *app) doing(do func(ctx context.Context, srv server, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		srv, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		return do(cmd.Context(), srv, args)
	}
}

func (l lister[T]) items(a *app, cmd *cobra.Command, args []string) ([]T, error) {
	if l.read != nil {
		return l.read(cmd)
	}
	srv, err := a.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	return l.ask(cmd.Context(), srv, args)
}
