// Command benchboot measures the boot services of the real program against
// their peers, and prints a line for each figure (package figure). It is run by
// `make bench-boot`, as root.
//
// Each server runs in a network namespace of its own, joined by a veth pair to
// that of the load ([link]), pinned to one core, in a cgroup that counts its CPU
// ([process]); the load runs on another core. With -unpinned both run on any.
// Servers take turns, A B C and then C B A ([bench.alternate]), fresh each time,
// and a round's ratios are taken within the round. The median of those is the
// figure; the table at the end says how far they are apart.
//
// What is measured are sections, one file each. To add one, write a function
// like dhcpSection and put it into the table below. A load that has to run in
// the namespace of the clients is a function in the table loads: [link.load]
// runs it there in a process of its own.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/internal/figure"
)

// A section is one subsystem that is measured.
type section struct {
	name  string
	run   func(ctx context.Context, b *bench) ([]figure.Figure, error)
	peers []string // programs that it is measured beside
	needs string   // what it needs of the build folder beside the program; "": nothing
}

func sections() []section {
	return []section{
		{"dhcp", dhcpSection, []string{"kea-dhcp4", "dhcpd", "dnsmasq", "perfdhcp"}, ""},
		{"tftp", tftpSection, []string{"in.tftpd", "dnsmasq"}, ""},
		{"http", httpSection, []string{"nginx"}, ""},
		{"script", scriptSection, []string{"nginx"}, ""},
		{"storm", stormSection, nil, "state/boot"},
		{"feed", feedSection, nil, "state/images"},
	}
}

func sectionNames() (names []string) {
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

// plan returns what is going to be measured, and says so: beside whom, and
// without whom. What a section needs has to be there before any of them begins.
func (b *bench) plan(only []string) ([]section, error) {
	if runtime.NumCPU() <= max(serverCPU, loadCPU) {
		return nil, errors.New("there has to be a core for the server and one for the load")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.say("the machine should have nothing else to do; its load before: %.14s", load)
	}
	var chosen []section
	for _, s := range sections() {
		if !slices.Contains(only, s.name) {
			continue
		}
		chosen = append(chosen, s)
		var beside []string
		for _, p := range s.peers {
			if _, err := b.peer(p); err != nil {
				p = "without " + p + ", which is not installed"
			}
			beside = append(beside, p)
		}
		b.say("%s: %d rounds at most, beside %s", s.name, b.rounds, cmp.Or(strings.Join(beside, ", "), "nobody"))
		if s.needs == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(b.build, s.needs)); err != nil {
			return nil, fmt.Errorf("%s: %w; run: make images", s.name, err)
		}
	}
	return chosen, nil
}

// A load makes work for a server, in a process of its own in the clients'
// namespace. Its arguments and its result travel as JSON.
type load func(ctx context.Context, args json.RawMessage) (result any, err error)

func loads() map[string]load {
	return map[string]load{
		"dhcp":      dhcpLoad,
		"dhcp-up":   dhcpUpLoad,
		"strangers": strangersLoad,
		"renew":     renewLoad,
		"six":       sixLoad,
		"flood":     floodLoad,
		"mutants":   mutantsLoad,
		"siege":     siegeLoad,
		"feed":      feedLoad,
		"http":      httpLoad,
		"tftp":      tftpLoad,
		"storm":     stormLoad,
	}
}

func main() { figure.Main("benchboot", run) }

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
	unlock, err := alone()
	if err != nil {
		return err
	}
	defer unlock()
	if b.dir, err = workDir(b.dir); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	chosen, err := b.plan(only)
	if err != nil {
		return err
	}
	return b.measure(ctx, chosen, out)
}

// workDir makes a folder for what servers store. In memory nothing would be
// synced, and leases that are durable would cost what others' do.
func workDir(in string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(in, &fs); err != nil {
		return "", fmt.Errorf("folder for what servers store: %s: %w", in, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return "", fmt.Errorf("%s is in memory: what servers sync there costs them nothing; name a folder on a disk with -dir", in)
	}
	return os.MkdirTemp(in, "benchboot")
}

// measure runs the sections, and sums up.
func (b *bench) measure(ctx context.Context, chosen []section, out io.Writer) error {
	begin := time.Now()
	var sections []figure.Section
	for _, s := range chosen {
		sections = append(sections, figure.Section{Name: s.name, Run: func(ctx context.Context) ([]figure.Figure, error) {
			figures, err := s.run(ctx, b)
			for i := range figures {
				figures[i].Name += b.mark()
			}
			return figures, err
		}})
	}
	all, failed := figure.Measure(ctx, sections, out, b.log)
	fmt.Fprintln(out)
	short, err := figure.Table(out, all)
	b.say("all took %s; %d aims are not reached; every round is in %s", time.Since(begin).Round(time.Second), short, b.results)
	return errors.Join(failed, err, figure.Save(b.results, all))
}

// mark is how the names of unpinned figures end.
func (b *bench) mark() string {
	if b.unpinned {
		return "-unpinned"
	}
	return ""
}

// alone sees to it that no other benchmark runs on this machine, whichever
// checkout it belongs to.
func alone() (unlock func(), err error) {
	f, err := os.OpenFile("/run/lock/provision-benchboot", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another benchmark is running (%s is locked): %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func parseFlags(args []string) (b *bench, only []string, limit time.Duration, err error) {
	b = &bench{log: os.Stderr}
	flags := flag.NewFlagSet("benchboot", flag.ContinueOnError)
	list := flags.String("only", "", "measure these `sections` only, separated by commas: "+strings.Join(sectionNames(), ", "))
	flags.IntVar(&b.rounds, "rounds", 5, "rounds of each figure")
	flags.BoolVar(&b.quick, "quick", false, "short rounds: an indication, not a figure")
	flags.StringVar(&b.results, "results", "bench-boot.json", "`file` for every round of each figure")
	flags.StringVar(&b.dir, "dir", os.TempDir(), "`folder` for what servers store, on a disk")
	flags.BoolVar(&b.unpinned, "unpinned", false, "let servers and load share all cores; a peer that can use several has as many threads or workers")
	flags.BoolVar(&b.keep, "keep", false, "say what the servers log")
	flags.DurationVar(&limit, "limit", time.Hour, "end after this `time`, whatever is left to do")
	if err := flags.Parse(args); err != nil {
		return nil, nil, 0, err
	}
	if flags.NArg() != 1 {
		return nil, nil, 0, errors.New("usage: benchboot [flags] BUILD-DIR")
	}
	if b.build, err = filepath.Abs(flags.Arg(0)); err != nil {
		return nil, nil, 0, err
	}
	only, err = figure.Choose(*list, sectionNames())
	return b, only, limit, err
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
