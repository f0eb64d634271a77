package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// A plug is a machine's serial port that a test holds the other end of.
type plug struct {
	out    chan []byte
	end    chan struct{}
	once   sync.Once
	lost   error
	mu     sync.Mutex
	typed  string
	breaks int
}

func (p *plug) Read(b []byte) (int, error) {
	select {
	case piece := <-p.out:
		return copy(b, piece), nil
	case <-p.end:
		return 0, p.lost
	}
}

func (p *plug) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.typed += string(b)
	return len(b), nil
}

func (p *plug) Break() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaks++
	return nil
}

func (p *plug) Close() error { p.lose(io.EOF); return nil }

func (p *plug) lose(err error) {
	p.once.Do(func() {
		p.lost = err
		close(p.end)
	})
}

func (p *plug) BitRate() int { return 9600 }

// A board is where consoles are plugged in.
type board struct {
	mu    sync.Mutex
	opens []string
	fail  error
	plug  *plug // the last one
}

func (b *board) open(_ context.Context, node fleet.NodeID, take bool) (Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens = append(b.opens, fmt.Sprintf("%s %t", node, take))
	if b.fail != nil {
		return nil, b.fail
	}
	b.plug = &plug{out: make(chan []byte), end: make(chan struct{})}
	return b.plug, nil
}

func (b *board) last() *plug {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.plug
}

func (b *board) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.opens)
}

func (b *board) setFail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// withHub runs a test with a hub, in a time of its own.
func withHub(t *testing.T, test func(t *testing.T, h *Hub, b *board)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &board{}
		archive, err := OpenArchive(dir, Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := NewHub(Options{Open: b.open, Archive: archive})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		test(t, h, b)
	})
}

func watch(t *testing.T, h *Hub, who string) *Watcher {
	t.Helper()
	w, _, err := h.Watch(t.Context(), "n-1", who, false)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// heard returns what a watcher has been told.
func heard(w *Watcher) string {
	synctest.Wait()
	var out strings.Builder
	for {
		select {
		case m, ok := <-w.Messages():
			switch {
			case !ok:
				return out.String() + "<end>"
			case m.Kind == Output:
				out.Write(m.Data)
			case m.Kind == Notice:
				out.WriteString("<" + m.Text + ">")
			case m.Kind == Writers:
				out.WriteString("[" + m.Text + "]")
			}
		default:
			return out.String()
		}
	}
}

func TestManyWatchOneConsole(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		anna, bob := watch(t, h, "anna"), watch(t, h, "bob")
		b.last().out <- []byte("login: ")
		for name, w := range map[string]*Watcher{"anna": anna, "bob": bob} {
			if got := heard(w); got != "login: " {
				t.Errorf("%s saw %q", name, got)
			}
		}
		_, recent, err := h.Watch(t.Context(), "n-1", "carl", false)
		if err != nil || string(recent) != "login: " {
			t.Errorf("who comes later sees %q, %v", recent, err)
		}
		if b.count() != 1 {
			t.Errorf("the console was opened %d times", b.count())
		}
	})
}

func TestTypingNeedsTheKeyboard(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		anna, bob := watch(t, h, "anna"), watch(t, h, "bob")
		if err := anna.Type([]byte("x")); fleet.CodeOf(err) != "E-CONSOLE-KEYBOARD" {
			t.Errorf("Type = %v", err)
		}
		if err := anna.Break(); fleet.CodeOf(err) != "E-CONSOLE-KEYBOARD" {
			t.Errorf("Break = %v", err)
		}
		anna.Keyboard(true)
		anna.Keyboard(true)
		bob.Keyboard(true)
		for _, w := range []*Watcher{anna, bob} {
			if err := w.Type([]byte(w.who + " ")); err != nil {
				t.Error(err)
			}
		}
		if err := bob.Break(); err != nil {
			t.Error(err)
		}
		bob.Keyboard(false)
		if err := bob.Type([]byte("x")); err == nil {
			t.Error("bob types without the keyboard")
		}
		anna.Close()
		if got, want := heard(bob), "[anna][anna, bob][anna][]"; got != want {
			t.Errorf("bob was told %q, want %q", got, want)
		}
		if p := b.last(); p.typed != "anna bob " || p.breaks != 1 {
			t.Errorf("the machine got %q and %d breaks", p.typed, p.breaks)
		}
	})
}

func TestWhoIsTooSlowIsDropped(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		slow, fast := watch(t, h, "slow"), watch(t, h, "fast")
		seen := 0
		for range maxBehind + 10 {
			b.last().out <- []byte("x")
			seen += len(heard(fast))
		}
		if seen != maxBehind+10 {
			t.Errorf("the fast one saw %d characters", seen)
		}
		if got := heard(slow); !strings.HasSuffix(got, "x<end>") || !errors.Is(slow.Err(), ErrSlow) {
			t.Errorf("the slow one saw %d characters and %v", len(got), slow.Err())
		}
	})
}

func TestAConsoleThatNobodyNeedsIsGivenBack(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		if h.IsOpen("n-1") {
			t.Error("it is open before anybody wants it")
		}
		w := watch(t, h, "anna")
		if !h.IsOpen("n-1") || h.IsOpen("n-2") {
			t.Errorf("while somebody watches it is open: %t; another one: %t", h.IsOpen("n-1"), h.IsOpen("n-2"))
		}
		w.Close()
		<-time.After(5 * time.Second) // of the bubble
		synctest.Wait()
		select {
		case <-b.last().end:
			t.Fatal("it was closed at once: who reloads a page opens it twice")
		default:
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		select {
		case <-b.last().end:
		default:
			t.Error("it is still open")
		}
		if h.IsOpen("n-1") {
			t.Error("it is said to be open when it was given back")
		}
		watch(t, h, "anna")
		if b.count() != 2 {
			t.Errorf("the console was opened %d times, want twice", b.count())
		}
	})
}

func TestALostConsoleIsOpenedAgain(t *testing.T) {
	unreachable := &fleet.Error{Kind: fleet.Unreachable, Code: "E-BMC-TIMEOUT", Op: "follow", Err: errors.New("silent")}
	taken := &fleet.Error{Kind: fleet.Conflict, Code: "E-SOL-TAKEN", Op: "follow", Err: errors.New("taken")}
	denied := &fleet.Error{Kind: fleet.Denied, Code: "E-BMC-LOGIN", Op: "follow", Err: errors.New("denied")}
	tests := map[string]struct {
		lost  error
		after time.Duration
		want  string
	}{
		"a BMC that fell silent, soon":          {unreachable, 3 * time.Second, "<follow: silent; trying again in 2s><the console is open again>"},
		"one that somebody took, after a while": {taken, 61 * time.Second, "<follow: taken; trying again in 1m0s><the console is open again>"},
		"one that somebody took, not soon":      {taken, 50 * time.Second, "<follow: taken; trying again in 1m0s>"},
		"one that knows us no more, not soon":   {denied, 50 * time.Second, "<follow: denied; trying again in 1m0s>"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withHub(t, func(t *testing.T, h *Hub, b *board) {
				w := watch(t, h, "anna")
				b.last().lose(tt.lost)
				<-time.After(tt.after)
				if got := heard(w); got != tt.want {
					t.Errorf("the watcher was told %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestAConsoleThatDoesNotOpenSaysWhy(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		b.setFail(&fleet.Error{Kind: fleet.Unreachable, Code: "E-SOL-DISABLED", Op: "open console", Err: errors.New("off")})
		for range 2 {
			if _, _, err := h.Watch(t.Context(), "n-1", "anna", false); fleet.CodeOf(err) != "E-SOL-DISABLED" {
				t.Errorf("Watch = %v", err)
			}
		}
		h.Record("n-1", true)
		synctest.Wait()
		began := time.Now()
		if _, _, err := h.Watch(t.Context(), "n-1", "anna", true); fleet.CodeOf(err) != "E-SOL-DISABLED" {
			t.Errorf("Watch = %v", err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("who comes waits %s for the next attempt", took)
		}
		if got := b.opens[len(b.opens)-1]; got != "n-1 true" {
			t.Errorf("the last attempt was %q: it does not take the console", got)
		}
		b.setFail(nil)
		<-time.After(mostRetry)
		synctest.Wait()
		b.last().out <- []byte("back\n")
		synctest.Wait()
		if got := h.LastLines("n-1", 3); !cmp.Equal(got, []string{"back"}) {
			t.Errorf("the last lines are %q", got)
		}
	})
}

func TestWhatIsRecordedIsOneRecordForEachStart(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		h.Mark("n-1", Switched) // nobody records: nothing happens
		h.Record("n-1", true)
		synctest.Wait()
		say := func(text string) {
			b.last().out <- []byte(text + "\r\n")
			synctest.Wait()
		}
		say("old system")
		<-time.After(time.Second)
		h.Mark("n-1", Switched)
		say("SeaBIOS")
		<-time.After(30 * time.Second)
		h.Mark("n-1", Network) // firmware
		<-time.After(5 * time.Second)
		h.Mark("n-1", Network) // iPXE
		say("iPXE")
		<-time.After(time.Hour)
		h.Mark("n-1", Network) // it restarted by itself
		say("again")
		h.Record("n-1", false)
		<-time.After(time.Minute)
		h.Mark("n-1", Switched)
		synctest.Wait()
		var got []string
		for _, r := range h.Archive().Records("n-1") {
			lines, _, err := h.Archive().Search(t.Context(), "n-1", Search{Record: r.ID})
			if err != nil {
				t.Fatal(err)
			}
			text := r.Why + ":"
			for _, l := range lines {
				text += " " + l.Text
			}
			got = append(got, text)
		}
		want := []string{"network boot: again", "power: SeaBIOS iPXE", "recording began: old system"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		select {
		case <-b.last().end:
		default:
			t.Error("the console is still open")
		}
	})
}

func TestWhatIsOnlyWatchedIsNotRecorded(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		w := watch(t, h, "anna")
		b.last().out <- []byte("password: \r\n")
		w.Close()
		<-time.After(time.Minute)
		if r := h.Archive().Records("n-1"); len(r) > 0 {
			t.Errorf("there are records: %+v", r)
		}
	})
}

// A bell keeps the alarms that stand.
type bell map[string]string

func (b bell) Raise(code, on, detail string) { b[code+" "+on] = detail }
func (b bell) Clear(code, on string)         { delete(b, code+" "+on) }

func TestGarbageRaisesAnAlarm(t *testing.T) {
	withHub(t, func(t *testing.T, h *Hub, b *board) {
		alarms := bell{}
		h.o.Alarms = alarms
		w := watch(t, h, "anna")
		b.last().out <- []byte(strings.Repeat("\x00\xfe\x80\xf8\x00", garbageWindow/5+1))
		heard(w)
		want := bell{"E-SOL-BAUD node n-1": "its BMC reads the serial port at 9600 bit/s, and what comes is no text"}
		if diff := cmp.Diff(want, alarms); diff != "" {
			t.Error(diff)
		}
		b.last().out <- []byte(strings.Repeat("Linux ", garbageWindow/6+1))
		if heard(w); len(alarms) > 0 {
			t.Errorf("the alarm stands: %v", alarms)
		}
	})
}

func TestAServerThatStopsGivesConsolesBack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &board{}
		archive, err := OpenArchive(dir, Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := NewHub(Options{Open: b.open, Archive: archive})
		ctx, cancel := context.WithCancel(t.Context())
		w := watch(t, h, "anna")
		h.Record("n-1", true)
		b.last().out <- []byte("half a line")
		synctest.Wait()
		cancel()
		if err := h.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if heard(w); fleet.CodeOf(w.Err()) != "E-STOPPING" {
			t.Errorf("the watcher was told %v", w.Err())
		}
		for _, node := range []fleet.NodeID{"n-1", "n-2"} {
			if _, _, err := h.Watch(t.Context(), node, "anna", false); fleet.CodeOf(err) != "E-STOPPING" {
				t.Errorf("Watch(%s) = %v", node, err)
			}
		}
		<-b.last().end
	})
	again, err := OpenArchive(dir, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := search(t, again, Search{}); len(got) != 1 || !strings.HasSuffix(got[0], "half a line") {
		t.Errorf("recorded was %q", got)
	}
}
