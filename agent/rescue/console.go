package rescue

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rackstage/provision/agent/retry"
)

const (
	shell     = "/bin/sh"
	shortLife = 5 * time.Second // of a shell whose terminal is not there
)

// Available reports whether this ramdisk has a shell.
func Available() bool {
	_, err := os.Stat(shell)
	return err == nil
}

// Install puts the commands of the shell's program where it looks for them.
func Install(ctx context.Context) error {
	return exec.CommandContext(ctx, "/bin/busybox", "--install", "-s", "/bin").Run()
}

// Consoles runs a shell on each of the kernel's consoles, again and again,
// until ctx is done.
func Consoles(ctx context.Context, log *slog.Logger) {
	active, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		log.Warn("no console is known", "err", err)
	}
	var wait sync.WaitGroup
	for _, name := range terminals(string(active)) {
		wait.Go(func() { console(ctx, name, log) })
	}
	wait.Wait()
}

// terminals are the consoles that a shell can have for itself: tty0 stands for
// whichever screen is shown, which is the first.
func terminals(active string) []string {
	names := strings.Fields(active)
	for i, name := range names {
		if name == "tty0" {
			names[i] = "tty1"
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func console(ctx context.Context, name string, log *slog.Logger) {
	var delay retry.Delay
	for ctx.Err() == nil {
		began := time.Now()
		if err := onTerminal(ctx, name); err != nil {
			log.Debug("shell ended", "terminal", name, "err", err)
		}
		if time.Since(began) > shortLife {
			delay.Reset()
		}
		_ = retry.Pause(ctx, delay.Next()) // the loop sees to ctx
	}
}

// onTerminal runs one shell. The terminal is its own: Ctrl-C reaches what it
// runs.
func onTerminal(ctx context.Context, name string) error {
	tty, err := os.OpenFile("/dev/"+name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	kind := "linux"
	if !strings.HasPrefix(name, "tty") || strings.HasPrefix(name, "ttyS") || strings.HasPrefix(name, "ttyAMA") {
		kind = "vt102"
	}
	cmd := login(ctx, kind)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd.Run()
}

// login is a shell that begins with /etc/profile; commands are what it runs, if
// anything.
func login(ctx context.Context, kind string, commands ...string) *exec.Cmd {
	args := []string{"-l"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := exec.CommandContext(ctx, shell, args...)
	cmd.Env, cmd.Dir = []string{"TERM=" + kind, "HOME=/root", "PATH=/bin"}, "/root"
	return cmd
}
