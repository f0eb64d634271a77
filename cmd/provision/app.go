package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// An app is one run of the program: where it reads and writes, and what is
// true of its surroundings.
type app struct {
	stdin  *bufio.Reader
	stdout io.Writer // data
	stderr io.Writer // messages, progress, questions

	getenv   func(string) string
	now      func() time.Time
	terminal bool       // a person sits at stdin and stderr
	width    func() int // of that terminal
	connect  func(context.Context) (server, error)

	global  globalFlags
	address string // of the server that was found
	started bool   // the command line was understood
}

// globalFlags are those that every command has.
type globalFlags struct {
	config    string
	server    string
	tokenFile string
	noColor   bool
}

func newApp(stdout, stderr io.Writer) *app {
	a := &app{
		stdin:    bufio.NewReader(os.Stdin),
		stdout:   stdout,
		stderr:   stderr,
		getenv:   os.Getenv,
		now:      time.Now,
		terminal: isTerminal(os.Stdin) && isTerminal(stderr),
		width:    func() int { return terminalWidth(stderr) },
	}
	a.connect = a.dial
	return a
}

// run carries out one command line.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRootCmd(a) //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	err := root.ExecuteContext(ctx)
	if _, known := errors.AsType[*exitError](err); err != nil && !a.started && !known {
		err = usage(err) // cobra did not understand the line
	}
	a.report(err)
	return exitCode(err)
}

// color reports whether output on the terminal may be coloured
// (https://no-color.org).
func (a *app) color() bool {
	return a.terminal && !a.global.noColor && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// A filer is a stream with a file descriptor.
type filer interface{ Fd() uintptr }

func isTerminal(stream any) bool {
	f, ok := stream.(filer)
	return ok && term.IsTerminal(int(f.Fd()))
}

func terminalWidth(stream any) int {
	if f, ok := stream.(filer); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 80
}
