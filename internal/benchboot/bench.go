package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A bench is what all sections share.
type bench struct {
	rounds int
	quick  bool
	keep   bool      // servers' output is shown
	build  string    // where the program, the peers and the results are
	dir    string    // for temporary files; gone at the end
	log    io.Writer // what is going on, for people

	unpinned bool // servers and load share all cores

	results string // file
}

const (
	serverCPU = 0
	loadCPU   = 1
)

// on is the start of a command line that is to run on a core. Unpinned, it may
// run on any.
func (b *bench) on(core int) []string {
	if b.unpinned {
		return nil
	}
	return []string{"taskset", "-c", strconv.Itoa(core)}
}

// cores is how many a server has.
func (b *bench) cores() int {
	if b.unpinned {
		return runtime.NumCPU()
	}
	return 1
}

// scale returns full, or a tenth of it when the bench is to be quick.
func (b *bench) scale(full int) int {
	if b.quick {
		return max(1, full/10)
	}
	return full
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, "# "+format+"\n", args...)
}

// alternate calls do for each name in each round: forwards in one round,
// backwards in the next, so that nobody is always the first. Who is missing or
// fails is left out from then on; the others go on. It returns why somebody is
// missing.
func (b *bench) alternate(ctx context.Context, rounds int, names []string, do func(round int, name string) error) (missing map[string]string, err error) {
	order, missing := slices.Clone(names), map[string]string{}
	var errs []error
	for round := range rounds {
		for _, name := range order {
			if missing[name] != "" {
				continue
			}
			if err := ctx.Err(); err != nil {
				return missing, errors.Join(append(errs, err)...)
			}
			err := do(round, name)
			var absent *missingError
			switch {
			case errors.As(err, &absent):
				missing[name] = err.Error()
			case err != nil:
				missing[name] = fmt.Sprintf("%s failed in round %d", name, round+1)
				b.say("%s: %v", missing[name], err)
				errs = append(errs, fmt.Errorf("round %d, %s: %w", round+1, name, err))
			}
		}
		slices.Reverse(order)
	}
	return missing, errors.Join(errs...)
}

// tempDir makes a folder that is gone when the bench ends.
func (b *bench) tempDir(name string) (string, error) {
	return os.MkdirTemp(b.dir, name)
}

// program returns the path of a program of ours.
func (b *bench) program(name string) (string, error) {
	p := filepath.Join(b.build, "bin", name)
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("%w; run: make build", err)
	}
	return p, nil
}

// A peer is a program that we compare with.
type peer struct {
	path string
	env  []string
}

// peer finds a program, first in build/peers, where setup.sh unpacks packages
// without installing them, then on the machine. Without one the error
// is a [missingError].
func (b *bench) peer(program string) (peer, error) {
	root := filepath.Join(b.build, "peers")
	for _, dir := range []string{"usr/sbin", "usr/bin", "sbin", "bin"} {
		p := filepath.Join(root, dir, program)
		if info, err := os.Stat(p); err == nil && info.Mode()&0o111 != 0 {
			libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
			more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu"))
			return peer{p, []string{"LD_LIBRARY_PATH=" + strings.Join(append(libs, more...), ":")}}, nil
		}
	}
	p, err := exec.LookPath(program)
	if err != nil {
		return peer{}, &missingError{program}
	}
	return peer{path: p}, nil
}

// A missingError says that a peer is not there: its column stays empty.
type missingError struct{ program string }

func (e *missingError) Error() string { return e.program + " is not installed" }

// errGone is an error that no patience helps against.
var errGone = errors.New("gone")

// poll calls try until it succeeds or fails for good, for so long at most.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := pollUntil(ctx.Done(), try)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	return nil
}

// pollUntil is poll for what is done after Ctrl-C too.
func pollUntil[T any](over <-chan T, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil || errors.Is(err, errGone) {
			return err
		}
		select {
		case <-over:
			return err
		case <-tick.C:
		}
	}
}
