package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// This file boots one machine and compares what the server saw of it with what
// it should have seen.

// A bootLog is the evidence that the server collected, by node.
type bootLog struct {
	mu    sync.Mutex
	lines map[string][]bootLine
}

type bootLine struct {
	at   time.Time
	text string
}

func followEvents(t *testing.T, r *labRack) *bootLog {
	t.Helper()
	log := &bootLog{lines: map[string][]bootLine{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = r.client.Events(ctx, 1, func(ev api.Event) error { // it ends with the test
			log.mu.Lock()
			defer log.mu.Unlock()
			log.lines[ev.Node] = append(log.lines[ev.Node], bootLine{ev.At, ev.Text})
			return nil
		})
	}()
	return log
}

func (l *bootLog) of(id fleet.NodeID) []bootLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[string(id)])
}

// missing returns the first of want that did not come, in order.
func missing(lines []bootLine, want []string) string {
	i := 0
	for _, w := range want {
		for i < len(lines) && !strings.Contains(lines[i].text, w) {
			i++
		}
		if i == len(lines) {
			return w
		}
	}
	return ""
}

const bootWithin = 4 * time.Minute

// bootOnce switches a machine on, from the network first, and off again when
// it has come as far as it shall.
func bootOnce(t *testing.T, r *labRack, name string, b boot, log *bootLog, id fleet.NodeID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	if err := netBoot(ctx, r, name); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.rack.PowerOn(ctx, name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.rack.PowerOff(name); err != nil {
			t.Error(err)
		}
	}()
	said := bootConsole(t, r, name)
	if b.again != "" {
		waitConsole(ctx, t, r, name, b.again)
		if err := errors.Join(r.rack.PowerOff(name), netBoot(ctx, r, name), r.rack.PowerOn(ctx, name)); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() string {
		if m := missing(log.of(id), b.want); m != "" {
			return m
		}
		if b.console != "" && !regexp.MustCompile(b.console).MatchString(said()) {
			return "on the console: " + b.console
		}
		n, err := r.client.Node(ctx, string(id))
		switch {
		case b.hello && (err != nil || n.Inventory.MemoryMiB == 0):
			return "hello of its agent"
		case b.hello && n.Inventory.Secure != (b.firmware == lab.SB || b.firmware == lab.SBHTTP):
			return "the right word of its agent about Secure Boot"
		}
		return ""
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for arrived() != "" && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	t.Logf("%s in %.1f s", name, time.Since(began).Seconds())
	for _, l := range log.of(id) {
		t.Logf("%6.2f s  %s", l.at.Sub(began).Seconds(), l.text)
	}
	if m := arrived(); m != "" {
		text := said()
		t.Errorf("%q never came; the console says:\n%q", m, text[max(0, len(text)-3000):])
	}
	for _, never := range b.never {
		if missing(log.of(id), []string{never}) == "" {
			t.Errorf("%q came, and should not have", never)
		}
	}
}

// bootURL changes the scheme of URLs that firmware gets, until its result is
// called.
func bootURL(t *testing.T, r *labRack, scheme string) (undo func()) {
	t.Helper()
	apply := func(site string) {
		if _, err := r.client.Apply(t.Context(), api.ApplyRequest{YAML: site}); err != nil {
			t.Error(err)
		}
	}
	apply(strings.Replace(firmwareSite, "mode: full", "mode: full, boot_url: "+scheme, 1))
	return func() { apply(firmwareSite) }
}

// netBoot has the next start of a machine be from the network.
func netBoot(ctx context.Context, r *labRack, name string) error {
	return lab.Hook(ctx, filepath.Join(r.rack.Dir(), name), []string{"chassis", "set", "boot", "pxe"}, io.Discard)
}

func waitConsole(ctx context.Context, t *testing.T, r *labRack, name, text string) {
	t.Helper()
	if _, err := r.rack.WaitConsole(ctx, name, regexp.MustCompile(text)); err != nil {
		t.Fatal(err)
	}
}

func bootConsole(t *testing.T, r *labRack, name string) func() string {
	t.Helper()
	path, err := r.rack.Console(name)
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
}
