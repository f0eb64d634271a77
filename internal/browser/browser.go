// Package browser gives tests a real browser: a headless Chromium with a profile
// of its own, which vanishes with the test.
//
// It is driven by the DevTools protocol over a pair of pipes: no port is opened,
// and what a test needs of the protocol is a few commands ([Page]).
package browser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take. The machine that runs tests may have
// a lot to do.
const patience = 60 * time.Second

// A Browser is one Chromium.
type Browser struct {
	tb  testing.TB
	cmd *exec.Cmd
	to  *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan<- message
	events  func(m message)
	ended   error // why nothing comes any more
}

// A message goes either way, and ends with a zero byte.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *fault          `json:"error,omitempty"`
}

// A fault is what the browser says when it does not do something.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (f *fault) Error() string { return f.Message }

// Start starts a browser that ends with the test. It accepts any certificate:
// those of our servers are made by themselves.
func Start(tb testing.TB) *Browser {
	tb.Helper()
	b := &Browser{tb: tb, waiting: map[int]chan<- message{}}
	theirs, to, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	b.to = to
	// Root has no sandbox, and nothing but the server is to be asked for anything.
	b.cmd = exec.CommandContext(tb.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", //nolint:gosec // a folder of ours
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--ignore-certificate-errors",
		"--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+tb.TempDir(), "about:blank")
	b.cmd.ExtraFiles = []*os.File{theirs, answers} // 3 and 4
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.cmd.Cancel = func() error { return syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) }
	if err := b.cmd.Start(); err != nil {
		tb.Fatalf("%v; install it with: apt-get install -y chromium", err)
	}
	theirs.Close()
	answers.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(from)
	}()
	tb.Cleanup(func() {
		_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // its profile goes anyhow
		_ = b.cmd.Wait()
		to.Close()
		<-read
		from.Close()
	})
	return b
}

// read hands out what the browser says, until it is gone.
func (b *Browser) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		raw, err := in.ReadBytes(0)
		var m message
		if err == nil {
			err = json.Unmarshal(raw[:len(raw)-1], &m)
		}
		b.mu.Lock()
		if err != nil {
			b.ended = fmt.Errorf("the browser is gone: %w", err)
			for id, answer := range b.waiting {
				delete(b.waiting, id)
				close(answer)
			}
			b.mu.Unlock()
			return
		}
		answer, events := b.waiting[m.ID], b.events
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case answer != nil:
			answer <- m
		case events != nil && m.Method != "":
			events(m)
		}
	}
}

// do gives a command and reads its result into out, unless that is nil.
func (b *Browser) do(session, method string, params, out any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	if err := b.ended; err != nil {
		b.mu.Unlock()
		return err
	}
	b.waiting[id] = answer
	b.mu.Unlock()
	order, err := json.Marshal(message{ID: id, Session: session, Method: method, Params: raw})
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(order, 0)); err != nil {
		return err
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", method, io.EOF)
		case m.Error != nil:
			return fmt.Errorf("%s: %w", method, m.Error)
		case out == nil:
			return nil
		}
		return json.Unmarshal(m.Result, out)
	case <-time.After(patience):
		return fmt.Errorf("%s: %w", method, errSilent)
	}
}

var errSilent = errors.New("the browser does not answer")
