package rescue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A terminal is what a guest's shell believes to sit at. The zero one is none.
type terminal struct {
	kind          string
	master, slave *os.File
}

// open reads a request for a terminal (RFC 4254, 6.2) and makes one.
func (t *terminal) open(payload []byte) error {
	var ask struct {
		Kind                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if err := ssh.Unmarshal(payload, &ask); err != nil {
		return err
	}
	if t.master != nil || len(ask.Kind) > 64 {
		return errors.New("one terminal is enough")
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	n := 0
	err = control(master, func(fd int) (err error) {
		if n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	if err == nil {
		t.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return err
	}
	t.kind, t.master = ask.Kind, master
	return t.size(ask.Columns, ask.Rows)
}

// resize reads the news of a window's size (RFC 4254, 6.7).
func (t *terminal) resize(payload []byte) error {
	var ask struct{ Columns, Rows, Width, Height uint32 }
	if err := ssh.Unmarshal(payload, &ask); err != nil {
		return err
	}
	return t.size(ask.Columns, ask.Rows)
}

func (t *terminal) size(columns, rows uint32) error {
	if t.master == nil {
		return errors.New("there is no terminal")
	}
	size := unix.Winsize{Col: uint16(min(columns, 4096)), Row: uint16(min(rows, 4096))} //nolint:gosec // bounded
	return control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size) })
}

// control does something to the device below a file. Fd would do, but a file
// that gave it away has no deadlines.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) { done = do(int(fd)) }) //nolint:gosec // a file descriptor
	return errors.Join(err, done)
}

// close ends a terminal that nothing ran at.
func (t *terminal) close() {
	if t.master != nil {
		_ = t.slave.Close()
		_ = t.master.Close()
	}
}

// run has a command sit at the terminal and passes on what is typed and shown.
func (t *terminal) run(cmd *exec.Cmd, guest io.ReadWriter) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := cmd.Start()
	_ = t.slave.Close()
	if err != nil {
		_ = t.master.Close()
		return err
	}
	shown := make(chan struct{})
	go func() { _, _ = io.Copy(t.master, guest) }() // ends with the guest
	go func() {
		defer close(shown)
		_, _ = io.Copy(guest, t.master) // fails when the last program at it has ended
	}()
	err = cmd.Wait()
	_ = t.master.SetReadDeadline(time.Now().Add(lingerTime))
	<-shown
	_ = t.master.Close()
	return err
}
