// Command benchbmc measures how the program gets on with 500 BMCs at the same
// time, beside ipmitool, and prints a line for each figure (package figure). It
// is run by `make bench-bmc`, as root.
//
// The BMCs are simulated, in a process of their own and in a network namespace
// that is made for it, each on an address of its own ([yard]). What is measured
// is another process in there, the client ([client]): package bmc as the server
// uses it, with the limits that it has. What the client does is known by its
// own clock; its memory and its open files are those of the whole process. Both
// processes share the machine, as they shared it when the aims were set.
//
// Dead BMCs are addresses from which nothing ever comes back, not even an
// error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchbmc:", err)
		os.Exit(1) //nolint:gocritic // stop only resets the signals
	}
}

// roles are what this program is in the yard.
func roles() map[string]func(ctx context.Context, in io.Reader, out io.Writer) error {
	return map[string]func(ctx context.Context, in io.Reader, out io.Writer) error{
		"bmcs":   keepBMCs,
		"client": client,
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 1 && roles()[args[0]] != nil {
		return roles()[args[0]](ctx, in, out)
	}
	b, limit, err := parseFlags(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces are made by root: run make bench-bmc as root")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if b.dir, err = os.MkdirTemp("", "benchbmc"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	return b.measure(ctx, out)
}

// A bench is what all kinds of BMC share.
type bench struct {
	n      int // BMCs
	rounds int
	only   []string
	build  string // where the results go
	dir    string // for temporary files; gone at the end
	log    io.Writer
}

func parseFlags(args []string) (b *bench, limit time.Duration, err error) {
	b = &bench{log: os.Stderr}
	flags := flag.NewFlagSet("benchbmc", flag.ContinueOnError)
	only := flags.String("only", "", "measure these `kinds` of BMC only, separated by commas: "+strings.Join(kindNames(), ", "))
	flags.IntVar(&b.rounds, "rounds", 3, "rounds of each figure")
	flags.IntVar(&b.n, "n", 500, "`number` of BMCs; the aims are for 500")
	flags.DurationVar(&limit, "limit", time.Hour, "end after this `time`, whatever is left to do")
	if err := flags.Parse(args); err != nil {
		return nil, 0, err
	}
	const most = 5000
	if flags.NArg() != 1 || b.n < 20 || b.n > most || b.rounds < 1 {
		return nil, 0, fmt.Errorf("usage: benchbmc [flags] BUILD-DIR, with 20 to %d BMCs", most)
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	for _, name := range b.only {
		if !slices.Contains(kindNames(), name) {
			return nil, 0, fmt.Errorf("there is no kind of BMC %q: want %s", name, strings.Join(kindNames(), ", "))
		}
	}
	b.build, err = filepath.Abs(flags.Arg(0))
	return b, limit, err
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, "# "+format+"\n", args...)
}

// measure measures one kind of BMC after the other. One that fails keeps what
// it has measured, and does not keep the others from being.
func (b *bench) measure(ctx context.Context, out io.Writer) error {
	var all []figure.Figure
	var errs []error
	for _, k := range kinds() {
		if len(b.only) > 0 && !slices.Contains(b.only, k.name) {
			continue
		}
		began := time.Now()
		figures, err := b.section(ctx, k)
		for _, f := range figures {
			fmt.Fprintln(out, f)
		}
		all = append(all, figures...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
		}
		b.say("%s took %s", k.name, time.Since(began).Round(time.Second))
	}
	name := filepath.Join(b.build, "bench-bmc.json")
	b.say("every round is in %s", name)
	return errors.Join(append(errs, figure.Save(name, all))...)
}

// decode reads what another process of ours has written.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %q: %w", raw[:min(len(raw), 200)], err)
	}
	return nil
}
