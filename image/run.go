package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// epoch is the time that everything made by a build carries: the release of
// Debian 12. Files out of packages keep their own times.
var epoch = time.Date(2023, 6, 10, 0, 0, 0, 0, time.UTC)

// A command is one run of an outside program.
type command struct {
	name  string
	args  []string
	env   []string  // added to ours
	stdin io.Reader // may be nil
	dir   string
}

// run runs c and returns its standard output. When it fails, the error ends
// with the last lines that the program wrote.
func (c command) run(ctx context.Context) (string, error) {
	out, _, err := c.runBoth(ctx)
	return out, err
}

// runBoth is run for programs of which the standard error matters too.
func (c command) runBoth(ctx context.Context) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = c.dir
	cmd.Stdin = c.stdin
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC"), c.env...)
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	err = cmd.Run()
	if err == nil {
		return out.String(), trouble.String(), nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", "", &fleet.Error{
			Kind: fleet.NotFound, Op: "run", On: c.name, Err: err,
			Hint: "install the packages that images are built with: apt-get install " + toolPackages,
		}
	}
	said := lastLines(trouble.String()+out.String(), 12)
	return out.String(), trouble.String(), fmt.Errorf("%s: %w\n%s", c.name, err, said)
}

// toolPackages are the Debian packages whose programs this package runs.
const toolPackages = "mmdebstrap e2fsprogs dosfstools mtools fdisk zstd kmod"

// run is command.run for the common case.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return command{name: name, args: args}.run(ctx)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// phases runs the named steps of a build one after the other and logs how long
// each of them took.
type phases struct {
	log *slog.Logger
}

func (p phases) do(ctx context.Context, name string, step func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	began := time.Now()
	if err := step(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.log.InfoContext(ctx, "build phase done", "phase", name, "seconds", time.Since(began).Round(time.Millisecond).Seconds())
	return nil
}

// quiet returns log, or a logger that says nothing.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
