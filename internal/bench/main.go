// Command bench prints the project's figures, those of [figure] that need no
// peer: sizes, and what Go benchmarks measure. All rounds go to a JSON file. It
// is run by `make bench`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rackstage/provision/internal/figure"
)

// A benchmark is a Go benchmark and what of it is a figure.
type benchmark struct {
	pkg, name string
	line      string // start of a word in the lines of its output that have the value
	metric    string // unit that follows the value: "ns/op", "rows/s"
	time      string // -benchtime of one round
	figure    figure.Figure
}

var benchmarks = []benchmark{
	{"./dhcp", "BenchmarkDurableExchange", "dhcp-durable-64", "exch/s", "1x", figure.Figure{Name: "dhcp-durable-64", Unit: "exch/s", Aim: ">=5000"}},
	{"./store", "BenchmarkSaveLeases/256", "Benchmark", "rows/s", "2s", figure.Figure{Name: "store-leases-256", Unit: "rows/s", Aim: ">=15000"}},
	{"./http/bootfile", "BenchmarkBootFile", "Benchmark", "MB/s", "2s", figure.Figure{Name: "http-boot-file", Unit: "MB/s", Aim: ">=500"}},
}

// sizes are files whose size is a figure, in MiB.
var sizes = []struct {
	figure figure.Figure
	files  []string
}{
	{figure.Figure{Name: "size-provision", Unit: "MiB", Aim: "<=64"}, []string{"bin/provision"}},
	{figure.Figure{Name: "size-agent", Unit: "MiB", Aim: "<=10"}, []string{"bin/provision-agent"}},
	{figure.Figure{Name: "size-kernel-and-ramdisk", Unit: "MiB", Aim: "<=36"}, []string{"state/boot/vmlinuz", "state/boot/initrd.img"}},
}

const rounds = 5

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: bench BUILD-DIR")
	}
	var all []figure.Figure
	for _, s := range sizes {
		f, err := measureSize(args[0], s.figure, s.files)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	for _, b := range benchmarks {
		f, err := b.measure(ctx)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	for _, f := range all {
		fmt.Fprintln(w, f)
	}
	return figure.Save(filepath.Join(args[0], "bench.json"), all)
}

func measureSize(dir string, f figure.Figure, files []string) (figure.Figure, error) {
	var sum int64
	for _, name := range files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return f, fmt.Errorf("measure size: %w; run: make build images", err)
		}
		sum += info.Size()
	}
	f.Rounds = []float64{float64(sum) / (1 << 20)}
	return f, nil
}

func (b benchmark) measure(ctx context.Context) (figure.Figure, error) {
	name := "^" + strings.ReplaceAll(b.name, "/", "$/^") + "$"
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", name, "-benchtime", b.time, "-count", strconv.Itoa(rounds), b.pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return b.figure, fmt.Errorf("%s %s: %w\n%s", b.pkg, b.name, err, out)
	}
	f := b.figure
	f.Rounds = values(out, b.line, b.metric)
	if len(f.Rounds) != rounds {
		return f, fmt.Errorf("%s %s: %d values of %s, want %d:\n%s", b.pkg, b.name, len(f.Rounds), b.metric, rounds, out)
	}
	return f, nil
}

// values returns the numbers that stand before a unit in the output of
// `go test -bench`, in lines with a word that begins like this.
func values(out []byte, line, unit string) []float64 {
	var found []float64
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if i := slices.Index(words, unit); i > 0 && slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, line) && !strings.HasSuffix(w, ":") }) {
			if v, err := strconv.ParseFloat(words[i-1], 64); err == nil {
				found = append(found, v)
			}
		}
	}
	return found
}
