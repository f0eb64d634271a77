// Command provision takes bare machines in racks from power-on to the right
// cluster: `provision serve` is the server, `provision --pool prd` the main
// job, everything else looks at things or changes one of them.
//
// This package reads flags, the environment and YAML, wires the other
// packages together and prints; it decides nothing about machines. Every
// command but serve, lab and images talks to a running server through its
// HTTP API, as the console does.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: it carries out the command in args and returns
// the exit code (the table in exit.go).
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return newApp(stdout, stderr).run(ctx, args)
}
