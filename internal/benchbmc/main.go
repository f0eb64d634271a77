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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/internal/figure"
)

func main() { figure.Main("benchbmc", run) }

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
	if b.only, err = figure.Choose(*only, kindNames()); err != nil {
		return nil, 0, err
	}
	b.build, err = filepath.Abs(flags.Arg(0))
	return b, limit, err
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, "# "+format+"\n", args...)
}

// measure measures one kind of BMC after the other.
func (b *bench) measure(ctx context.Context, out io.Writer) error {
	var sections []figure.Section
	for _, k := range kinds() {
		if slices.Contains(b.only, k.name) {
			sections = append(sections, figure.Section{Name: k.name, Run: func(ctx context.Context) ([]figure.Figure, error) { return b.section(ctx, k) }})
		}
	}
	all, err := figure.Measure(ctx, sections, out, b.log)
	name := filepath.Join(b.build, "bench-bmc.json")
	b.say("every round is in %s", name)
	return errors.Join(err, figure.Save(name, all))
}

// decode reads what another process of ours has written.
func decode(raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %q: %w", raw[:min(len(raw), 200)], err)
	}
	return nil
}
