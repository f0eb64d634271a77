package ramdisk

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mostCrashes = 30
	longestWait = time.Minute
)

// Supervise is the first process. The kernel panics when that one ends, so
// that it does as little as can be: it mounts what is needed, and runs the
// agent as a child, again and again. After many crashes (about half an hour)
// it restarts the machine. It never returns.
//
// Nobody but the agent is its child, so nothing else has to be reaped. What
// somebody leaves behind in the background of a rescue shell stays a zombie
// until the machine restarts, which does no harm.
func Supervise(program string, args ...string) {
	log := slog.New(NewLines(console()))
	if err := Mount(); err != nil {
		log.Error("mount failed", "err", err)
	}
	// The console again: devtmpfs may have brought a better one.
	out := console()
	log = slog.New(NewLines(out))
	settings := map[string]string{
		"/proc/sys/kernel/panic":  "30",      // restart half a minute after a kernel panic
		"/proc/sys/kernel/printk": "4 4 1 4", // the console is for facts; dmesg keeps the rest
	}
	for name, value := range settings {
		if err := os.WriteFile(name, []byte(value), 0o644); err != nil {
			log.Warn("kernel setting refused", "name", name, "err", err)
		}
	}
	wait := time.Second
	for crash := 1; crash <= mostCrashes; crash++ {
		err := runChild(out, program, args)
		log.Error("agent ended, starting it again", "why", fmt.Sprint(err), "in", wait, "crash", crash, "of", mostCrashes)
		<-time.After(wait)
		wait = min(2*wait, longestWait)
	}
	log.Error("agent does not stay up, restarting the machine")
	if err := Restart(); err != nil {
		log.Error("restart refused", "err", err)
	}
	select {} // not reached, unless the kernel refuses
}

func runChild(out *os.File, program string, args []string) error {
	cmd := exec.Command(program, args...) //nolint:noctx // lives as long as the machine
	cmd.Stdout, cmd.Stderr = out, out     // what Go says of a panic
	return cmd.Run()
}

func console() *os.File {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return os.Stderr
	}
	return f
}

// Restart restarts the machine. What was written is synced before.
func Restart() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// PowerOff switches the machine off. What was written is synced before.
func PowerOff() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
