package figure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Section measures one thing of several.
type Section struct {
	Name string
	Run  func(ctx context.Context) ([]Figure, error)
}

// Main is the main function of a command that measures.
func Main(name string, run func(ctx context.Context, args []string, in io.Reader, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1) //nolint:gocritic // stop only resets the signals
	}
}

// Choose returns those of names that a list with commas has, all of them for
// an empty list.
func Choose(list string, names []string) ([]string, error) {
	if list == "" {
		return names, nil
	}
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no %q to be measured: want %s", name, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// Measure runs one section after the other, prints their figures to out, and
// says to log how long each took. One that fails keeps what it has measured,
// and does not keep the others from running.
func Measure(ctx context.Context, sections []Section, out, log io.Writer) ([]Figure, error) {
	var all []Figure
	var errs []error
	for _, s := range sections {
		began := time.Now()
		figures, err := s.Run(ctx)
		for _, f := range figures {
			_, _ = fmt.Fprintln(out, f)
		}
		all = append(all, figures...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
			_, _ = fmt.Fprintf(log, "# %s failed: %v\n", s.Name, err)
		}
		_, _ = fmt.Fprintf(log, "# %s took %s\n", s.Name, time.Since(began).Round(time.Second))
	}
	return all, errors.Join(errs...)
}
