package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/bmc/bmctest"
)

const seatSite = `
stages: [{name: dev}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: dev, stage: dev, profile: docker, console: record}]
rules:
  - {name: all, pool: dev, approve: true, bmc: {driver: ipmi, cipher_suite: 3, username: admin, password_file: DIR/bmc, address: 127.0.0.1, ipmi_port: PORT}}
`

// A person at a real terminal has provision console carry a machine's serial port
// to it, by way of the real server and a BMC's SOL, and leaves in each of the ways
// that there are. The terminal is as it was then, and what the machine wrote can
// be searched.
func TestAPersonAtATerminalSitsBeforeAMachinesConsole(t *testing.T) {
	serial := bmctest.OpenSerialPort(t)
	sim := bmctest.StartIPMI(t, bmctest.IPMIOptions{On: true, Serial: serial})
	s := newServer(t, strings.ReplaceAll(seatSite, "PORT", sim.Port()), "", map[string]string{"bmc": bmctest.Password})
	s.start(t)
	node := s.meet(t, lifeMAC, "C0FFEE", "ipmi").id

	t.Run("and types, and leaves by ~.", func(t *testing.T) {
		p := sitDown(t, s, "console", node)
		p.sees(t, "connected to the console of "+node)
		until(t, time.Minute, "the BMC reads the serial port", func(context.Context) (bool, error) { return serial.Print(bootText), nil })
		p.sees(t, "\x1b[0;1;31mFAILED")
		p.sees(t, "dev-1 login: ")
		p.types(t, "root ~.~?<>$\x03\x04\r~~.\r~?")
		until(t, time.Minute, "the machine has what was typed", func(context.Context) (bool, error) {
			if got := serial.Typed(); got != "root ~.~?<>$\x03\x04\r~.\r" {
				return false, fmt.Errorf("it has %q", got)
			}
			return true, nil
		})
		p.sees(t, "~.   leave the console")
		serial.Print("root@dev-1:~# \r\n")
		p.sees(t, "root@dev-1:~# ")
		p.types(t, "~.")
		p.left(t, exitOK)
	})
	t.Run("and only watches, and leaves by Ctrl-C", func(t *testing.T) {
		p := sitDown(t, s, "console", node, "--read-only")
		p.sees(t, "reading only")
		p.sees(t, "root@dev-1:~# ") // what was written before
		p.types(t, "\x03")
		p.left(t, exitInterrupted)
	})
	t.Run("and is sent away", func(t *testing.T) {
		p := sitDown(t, s, "console", node)
		p.sees(t, "connected to the console")
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.left(t, exitInterrupted)
	})
	t.Run("and finds what was written", func(t *testing.T) { s.searchConsole(t, node) })
	t.Run("and the server is gone", func(t *testing.T) {
		p := sitDown(t, s, "console", node)
		p.sees(t, "connected to the console")
		s.stop(t, syscall.SIGKILL)
		p.left(t, exitUnreachable)
	})
	if got := serial.Typed(); got != "root ~.~?<>$\x03\x04\r~.\r" {
		t.Errorf("in all the machine got %q", got)
	}
}

// searchConsole looks for what was recorded.
func (s *ownServer) searchConsole(t *testing.T, node string) {
	t.Helper()
	until(t, time.Minute, "the last that was written is recorded", func(ctx context.Context) (bool, error) {
		out, err := s.command(ctx, "console", node, "--log", "--grep", "root@dev-1").CombinedOutput()
		if err != nil {
			return false, fmt.Errorf("%w: %s", err, out)
		}
		return strings.Contains(string(out), "root@dev-1:~#"), nil
	})
	for pattern, want := range map[string]string{
		`FAILED.*smartd`: "[FAILED] Failed to start smartd.service.\n", // without the colours
		`Linux version`:  "[    0.000000] Linux version 6.1.0-31-amd64 (Debian 6.1.128-1)\n",
	} {
		if out, err := s.command(t.Context(), "console", node, "--grep", pattern).CombinedOutput(); err != nil || !strings.HasSuffix(string(out), want) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("lines that match %s are %q, %v; want %q", pattern, out, err, want)
		}
	}
	out, err := s.command(t.Context(), "console", node, "--grep", `<>\$`).CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != exitFailed || len(out) > 0 {
		t.Errorf("what was typed is found: %q, %v", out, err)
	}
	records, err := s.client.ConsoleRecords(t.Context(), node)
	if err != nil || len(records) == 0 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	raw, err := s.command(t.Context(), "console", node, "--raw", "--record", records[0].ID).Output()
	if err != nil || !strings.Contains(string(raw), bootText) {
		t.Errorf("the record is %q, %v; want what the machine wrote, to the letter", raw, err)
	}
}

// A sitter is a person at a pseudo-terminal, where a command runs.
type sitter struct {
	cmd           *exec.Cmd
	keys, screen  *os.File
	before        unix.Termios
	mu            sync.Mutex
	seen          strings.Builder
	looked        int           // at so much of it
	changed, gone chan struct{} // seen is more; the screen is dark
}

// sitDown runs a command at a terminal of its own.
func sitDown(t *testing.T, s *ownServer, args ...string) *sitter {
	t.Helper()
	p := &sitter{changed: make(chan struct{}, 1), gone: make(chan struct{})}
	p.keys, p.screen = openTerminal(t)
	p.before = p.mode(t)
	p.cmd = s.command(t.Context(), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.screen, p.screen, p.screen
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.look()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait() // it was killed
		}
		_ = p.screen.Close()
		<-p.gone
		_ = p.keys.Close()
	})
	return p
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keys.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var unlocked error
	err = raw.Control(func(fd uintptr) {
		if n, unlocked = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); unlocked == nil {
			unlocked = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	})
	if err := errors.Join(err, unlocked); err != nil {
		t.Fatal(err)
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return keys, screen
}

// mode is how the terminal treats what is typed and written.
func (p *sitter) mode(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(p.screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// look reads the screen until nobody holds the terminal any more.
func (p *sitter) look() {
	defer close(p.gone)
	buf := make([]byte, 4096)
	for {
		n, err := p.keys.Read(buf)
		p.mu.Lock()
		p.seen.Write(buf[:n])
		p.mu.Unlock()
		select {
		case p.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// sees waits until a text is on the screen, after those that were seen before.
func (p *sitter) sees(t *testing.T, text string) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		p.mu.Lock()
		all := p.seen.String()
		p.mu.Unlock()
		if at := strings.Index(all[p.looked:], text); at >= 0 {
			p.looked += at + len(text)
			return
		}
		select {
		case <-p.changed:
		case <-late.C:
			t.Fatalf("%q is not on the screen:\n%q", text, all)
		}
	}
}

func (p *sitter) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// left waits for the end of the command, after which the terminal is as it was.
func (p *sitter) left(t *testing.T, code int) {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_ = p.cmd.Wait() // the code tells
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.mu.Lock()
		defer p.mu.Unlock()
		t.Errorf("it ended with %d, want %d; on the screen is\n%q", got, code, p.seen.String())
	}
	if after := p.mode(t); after != p.before {
		t.Errorf("the terminal is %+v, and was %+v", after, p.before)
	}
}
