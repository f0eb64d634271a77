// Command benchboot measures the boot services of the real program against
// their peers, and prints a line for each figure (package figure). It is run by
// `make bench-boot`, as root.
//
// Each server runs in a network namespace of its own, joined by a veth pair to
// that of the load ([link]), pinned to one core, in a cgroup that counts its
// CPU ([process]); the load runs on another core. Servers take turns, A B C and
// then C B A ([bench.alternate]), fresh each time, and a round's ratios are
// taken within the round.
//
// What is measured are sections, one file each. To add one, write a function
// like dhcpSection and put it into the table below. A load that has to run in
// the namespace of the clients is a function in the table loads: [link.load]
// runs it there in a process of its own.
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

// A section is one subsystem that is measured.
type section struct {
	name string
	run  func(ctx context.Context, b *bench) ([]figure.Figure, error)
}

func sections() []section {
	return []section{
		{"dhcp", dhcpSection},
		{"tftp", tftpSection},
		{"http", httpSection},
		{"script", scriptSection},
		{"storm", stormSection},
		{"feed", feedSection},
	}
}

// A load makes work for a server, in a process of its own in the clients'
// namespace. Its arguments and its result travel as JSON.
type load func(ctx context.Context, args json.RawMessage) (result any, err error)

func loads() map[string]load {
	return map[string]load{
		"dhcp":      dhcpLoad,
		"strangers": strangersLoad,
		"flood":     floodLoad,
		"feed":      feedLoad,
		"http":      httpLoad,
		"tftp":      tftpLoad,
		"storm":     stormLoad,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchboot:", err)
		os.Exit(1) //nolint:gocritic // stop only resets the signals
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 2 && args[0] == "load" {
		return runLoad(ctx, args[1], in, out)
	}
	if len(args) > 0 && args[0] == "feed-server" {
		return feedServer(ctx, args[1:])
	}
	b, only, limit, err := parseFlags(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces are made by root: run make bench-boot as root")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if b.dir, err = os.MkdirTemp("", "benchboot"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var all []figure.Figure
	for _, s := range sections() {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		figures, err := s.run(ctx, b)
		for _, f := range figures {
			fmt.Fprintln(out, f)
		}
		all = append(all, figures...)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return figure.Save(filepath.Join(b.build, "bench-boot.json"), all)
}

func parseFlags(args []string) (b *bench, only []string, limit time.Duration, err error) {
	b = &bench{log: os.Stderr}
	flags := flag.NewFlagSet("benchboot", flag.ContinueOnError)
	sections := flags.String("only", "", "measure these `sections` only, separated by commas")
	flags.IntVar(&b.rounds, "rounds", 5, "rounds of each figure")
	flags.BoolVar(&b.quick, "quick", false, "short rounds: an indication, not a figure")
	flags.BoolVar(&b.keep, "keep", false, "say what the servers log")
	flags.DurationVar(&limit, "limit", 2*time.Hour, "end after this `time`, whatever is left to do")
	if err := flags.Parse(args); err != nil {
		return nil, nil, 0, err
	}
	if flags.NArg() != 1 {
		return nil, nil, 0, errors.New("usage: benchboot [flags] BUILD-DIR")
	}
	if b.build, err = filepath.Abs(flags.Arg(0)); err != nil {
		return nil, nil, 0, err
	}
	if *sections != "" {
		only = strings.Split(*sections, ",")
	}
	return b, only, limit, nil
}

// runLoad is the process that [link.load] starts.
func runLoad(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	do, ok := loads()[name]
	if !ok {
		return fmt.Errorf("no load %q", name)
	}
	args, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	result, err := do(ctx, args)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
