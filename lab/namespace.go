package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A namespace is a named network namespace, as `ip netns` knows it.
type namespace string

func namespaceOf(rack string) namespace { return namespace("rack-" + rack) }

func (ns namespace) path() string { return filepath.Join("/run/netns", string(ns)) }

// create makes the namespace. It goes through iproute2, which takes care that
// the name is seen in every mount namespace of the host.
func (ns namespace) create(ctx context.Context) error {
	return run(ctx, "ip", "netns", "add", string(ns))
}

// remove makes the namespace disappear, with the links in it.
func (ns namespace) remove(ctx context.Context) error {
	if !ns.exists() {
		return nil
	}
	return run(ctx, "ip", "netns", "delete", string(ns))
}

func (ns namespace) exists() bool {
	_, err := os.Stat(ns.path())
	return err == nil
}

// holders returns the processes that live in the namespace.
func (ns namespace) holders() []int {
	want, err := os.Stat(ns.path())
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		got, err := os.Stat(filepath.Join("/proc", e.Name(), "ns/net"))
		if err == nil && os.SameFile(want, got) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// do runs f on a thread that is inside the namespace: sockets that f opens
// and links that it makes belong there. f must not start goroutines that do
// either.
func (ns namespace) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := ns.enter()
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = f()
		// A thread that cannot go back stays locked, and so is thrown away.
		if back() == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter moves the current thread into the namespace; back moves it home.
func (ns namespace) enter() (back func() error, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open our network namespace: %w", err)
	}
	back = func() error {
		defer unix.Close(home)
		return unix.Setns(home, unix.CLONE_NEWNET)
	}
	fd, err := unix.Open(ns.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(home)
		return nil, fmt.Errorf("open network namespace %s: %w", ns, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		unix.Close(home)
		return nil, fmt.Errorf("enter network namespace %s: %w", ns, err)
	}
	return back, nil
}

// command prepares a program that runs inside the namespace, under the pid of
// the returned command: nsenter replaces itself with it.
func (ns namespace) command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + ns.path(), "--"}, argv...)...)
}

// run executes a short program and reports what it complained about.
func run(ctx context.Context, argv ...string) error {
	return runCommand(exec.CommandContext(ctx, argv[0], argv[1:]...))
}

func runCommand(c *exec.Cmd) error {
	out, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if text == "" || errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("run %s: %w", filepath.Base(c.Args[0]), err)
	}
	return fmt.Errorf("run %s: %w: %s", filepath.Base(c.Args[0]), err, text)
}
