// Package netns gives tests network namespaces of their own: interfaces,
// addresses and ports are private there, and vanish with the test.
package netns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv marks the test process that runs in a network namespace of its own.
const insideEnv = "PROVISION_TEST_IN_NETNS"

// Inside runs the rest of a test, or of a benchmark, in a new network
// namespace: the test starts itself again there. It returns false in the
// process outside, which then only reports.
func Inside(tb testing.TB) bool {
	tb.Helper()
	if os.Getenv(insideEnv) != "" {
		if err := IP("link", "set", "lo", "up"); err != nil {
			tb.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		tb.Fatal("this test makes network namespaces: run it as root (make test does)")
	}
	args, proof := []string{"-test.run=^" + tb.Name() + "$", "-test.v", "-test.timeout=14m"}, "--- PASS: "+tb.Name()
	if _, ok := tb.(*testing.B); ok {
		args, proof = []string{"-test.run=^$", "-test.bench=^" + tb.Name() + "$", "-test.benchtime=1x", "-test.timeout=5m"}, "FIGURE"
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	tb.Logf("in the namespace:\n%s", out)
	if err != nil || !strings.Contains(string(out), proof) {
		tb.Fatalf("it failed in its namespace: %v", err)
	}
	return false
}

// Elsewhere runs work on a thread with a network namespace of its own, into
// which one end of a link is moved. The thread ends with the work, and the
// namespace with the thread.
func Elsewhere(tb testing.TB, link string, work func() error) {
	tb.Helper()
	tid, moved, done := make(chan int), make(chan error), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to others
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			tid <- 0
			done <- err
			return
		}
		tid <- unix.Gettid()
		if err := <-moved; err != nil {
			done <- err
			return
		}
		done <- work()
	}()
	if id := <-tid; id != 0 {
		moved <- IP("link", "set", link, "netns", strconv.Itoa(id))
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
}

// IP runs the program of that name in the namespace of this very thread: a
// child has that of the thread that forks it.
func IP(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput() //nolint:noctx // takes no time
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
