package ramdisk

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

func TestLinesAreForPeople(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewLines(&out)).With("node", "n-1")
	log.Debug("hidden")
	log.Info("network is up", "addr", "10.77.0.9/24", "why", "a b", "serial", "x\x1b[2J", "none", "")
	log.Warn("server away", "err", errors.New("refused"))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`^\[ *\d+\.\d{3}\] provision: network is up node=n-1 addr=10\.77\.0\.9/24 why="a b" serial="x\\x1b\[2J" none=""$`,
		`^\[ *\d+\.\d{3}\] provision: warn: server away node=n-1 err=refused$`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, w := range want {
		if !regexp.MustCompile(w).MatchString(lines[i]) {
			t.Errorf("line %d = %s\nwant %s", i, lines[i], w)
		}
	}
}

func TestHangingTerminalDoesNotStopTheAgent(t *testing.T) {
	c := &Console{}
	hung, release := io.Pipe() // nobody reads
	_ = hung
	c.add(release)
	var good bytes.Buffer
	done := make(chan struct{})
	c.add(writerFunc(func(b []byte) (int, error) {
		n, err := good.Write(b)
		if bytes.HasPrefix(b, []byte("last")) {
			close(done)
		}
		return n, err
	}))
	for range 100 {
		if _, err := c.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = c.Write([]byte("last\n"))
	<-done
	if want := strings.Repeat("line\r\n", 100) + "last\r\n"; good.String() != want {
		t.Errorf("the other terminal got %d bytes, want %d", good.Len(), len(want))
	}
	_ = hung.Close()
	for _, q := range c.queues {
		close(q)
	}
	c.wait.Wait()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
