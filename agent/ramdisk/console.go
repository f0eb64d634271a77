package ramdisk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Console writes to every terminal that a person may look at: serial port
// and screen. A terminal that hangs (flow control, a dead BMC) loses lines,
// it does not stop the agent.
type Console struct {
	queues []chan []byte
	wait   sync.WaitGroup
}

// OpenConsole opens the kernel's consoles, the first serial port and the
// screen.
func OpenConsole() *Console {
	c := &Console{}
	active, _ := os.ReadFile("/sys/class/tty/console/active")
	names := append(strings.Fields(string(active)), "ttyS0", "tty0")
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		// A port that is not there can be opened; it fails at the first write.
		tty, err := os.OpenFile("/dev/"+name, os.O_WRONLY|unix.O_NOCTTY, 0)
		if err == nil {
			c.add(tty)
		}
	}
	return c
}

func (c *Console) add(tty io.Writer) {
	queue := make(chan []byte, 256)
	c.queues = append(c.queues, queue)
	c.wait.Go(func() {
		for line := range queue {
			if _, err := tty.Write(line); err != nil {
				for range queue { // drain what nobody can read
				}
			}
		}
	})
}

// Write writes one line to every terminal.
func (c *Console) Write(line []byte) (int, error) {
	copied := slices.Concat(line[:max(0, len(line)-1)], []byte("\r\n"))
	for _, queue := range c.queues {
		select {
		case queue <- copied:
		default: // the terminal hangs
		}
	}
	return len(line), nil
}

// Flush waits until everything was shown, but not for long.
func (c *Console) Flush() {
	deadline := time.NewTimer(2 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		busy := slices.ContainsFunc(c.queues, func(q chan []byte) bool { return len(q) > 0 })
		if !busy {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return
		}
	}
}

// Lines is a slog handler for a terminal: seconds since power-on as the
// kernel counts them, one line per fact.
type Lines struct {
	to    io.Writer
	attrs string
}

// NewLines returns a handler that writes to w.
func NewLines(w io.Writer) *Lines { return &Lines{to: w} }

// Enabled leaves debug lines out.
func (l *Lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle writes "[   3.214] provision: message key=value".
func (l *Lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%8.3f] provision: ", uptime().Seconds())
	if r.Level >= slog.LevelWarn {
		b.WriteString(strings.ToLower(r.Level.String()) + ": ")
	}
	b.WriteString(r.Message + l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(showAttr(a))
		return true
	})
	_, err := io.WriteString(l.to, b.String()+"\n")
	return err
}

// WithAttrs returns a handler whose lines carry attrs too.
func (l *Lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *l
	for _, a := range attrs {
		more.attrs += showAttr(a)
	}
	return &more
}

// WithGroup is not needed for a console.
func (l *Lines) WithGroup(string) slog.Handler { return l }

// showAttr quotes what has blanks or does not print: values come from
// servers and machines.
func showAttr(a slog.Attr) string {
	v := a.Value.Resolve().String()
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '"' || r >= 0x7f }) {
		v = fmt.Sprintf("%q", v)
	}
	return " " + a.Key + "=" + v
}

func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
