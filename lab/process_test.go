package lab

import (
	"os/exec"
	"testing"
	"time"
)

func TestOnlyTheProcessThatWasStartedIsEnded(t *testing.T) {
	c := exec.CommandContext(t.Context(), "sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	p, err := identify(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	earlier := process{PID: p.PID, Start: p.Start - 1} // had the same pid before
	if earlier.alive() {
		t.Error("a process is taken for its predecessor")
	}
	if err := earlier.end(time.Second); err != nil {
		t.Error(err)
	}
	if !p.alive() {
		t.Fatal("the predecessor's end has hit the wrong process")
	}
	if err := p.end(5 * time.Second); err != nil {
		t.Error(err)
	}
	if p.alive() { // it waits for its parent, us
		t.Error("a process that was killed is taken for alive")
	}
	for _, p := range []process{{}, {PID: -1}, {PID: 1 << 22}} {
		if p.alive() || p.end(time.Second) != nil {
			t.Errorf("process %+v is alive, or cannot be ended", p)
		}
	}
}
