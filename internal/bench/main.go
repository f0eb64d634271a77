// Command bench prints the project's figures, one line each:
//
//	FIGURE <name> <value> <unit> <ratio>x <peer> aim <aim> OK|SHORT
//
// with "-" for ratio and peer where there is no peer. Each figure is the
// median of several rounds; all rounds go to a JSON file. It is run by
// `make bench`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A figure is one thing that is measured.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Aim    string    `json:"aim"` // "<=36" or ">=1000"; "" for none
	Rounds []float64 `json:"rounds"`
}

// A benchmark is a Go benchmark and what of it is a figure.
type benchmark struct {
	pkg, name string
	line      string // start of a word in the lines of its output that have the value
	metric    string // unit that follows the value: "ns/op", "rows/s"
	time      string // -benchtime of one round
	figure    figure
}

var benchmarks = []benchmark{
	{"./dhcp", "BenchmarkDurableExchange", "dhcp-durable-64", "exch/s", "1x", figure{Name: "dhcp-durable-64", Unit: "exch/s", Aim: ">=5000"}},
	{"./store", "BenchmarkSaveLeases/256", "Benchmark", "rows/s", "2s", figure{Name: "store-leases-256", Unit: "rows/s", Aim: ">=15000"}},
	{"./http/bootfile", "BenchmarkBootFile", "Benchmark", "MB/s", "2s", figure{Name: "http-boot-file", Unit: "MB/s", Aim: ">=500"}},
}

// sizes are files whose size is a figure, in MiB.
var sizes = []struct {
	figure figure
	files  []string
}{
	{figure{Name: "size-provision", Unit: "MiB", Aim: "<=64"}, []string{"bin/provision"}},
	{figure{Name: "size-agent", Unit: "MiB", Aim: "<=10"}, []string{"bin/provision-agent"}},
	{figure{Name: "size-kernel-and-ramdisk", Unit: "MiB", Aim: "<=36"}, []string{"state/boot/vmlinuz", "state/boot/initrd.img"}},
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
	var all []figure
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
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(args[0], "bench.json"), append(raw, '\n'), 0o644)
}

func measureSize(dir string, f figure, files []string) (figure, error) {
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

func (b benchmark) measure(ctx context.Context) (figure, error) {
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

func (f figure) median() float64 {
	sorted := slices.Sorted(slices.Values(f.Rounds))
	return sorted[len(sorted)/2]
}

// String is the figure's line.
func (f figure) String() string {
	aim, verdict := "-", "OK"
	if f.Aim != "" {
		aim = f.Aim
		if !f.reached() {
			verdict = "SHORT"
		}
	}
	return fmt.Sprintf("FIGURE %s %.4g %s - - aim %s %s", f.Name, f.median(), f.Unit, aim, verdict)
}

func (f figure) reached() bool {
	limit, err := strconv.ParseFloat(strings.TrimLeft(f.Aim, "<>="), 64)
	if err != nil {
		return false
	}
	if strings.HasPrefix(f.Aim, "<=") {
		return f.median() <= limit
	}
	return f.median() >= limit
}
