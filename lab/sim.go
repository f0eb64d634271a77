package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const simBinary = "ipmi_sim"

// prepareBMC writes what ipmi_sim reads at its start.
func (b *bay) prepareBMC() error {
	if err := os.MkdirAll(b.path(bmcDir), 0o700); err != nil {
		return fmt.Errorf("make directory of the BMC: %w", err)
	}
	conf, err := render("lan.conf", struct {
		Name             string
		BMC              BMC
		GUID             string
		Hook             []string
		KCSPort, SOLPort int
	}{b.Machine.Name, b.Machine.BMC, strings.ReplaceAll(b.Machine.UUID, "-", ""), b.hookCommand(), b.KCSPort, b.SOLPort})
	if err != nil {
		return err
	}
	commands, err := files.ReadFile("files/commands.emu")
	if err != nil {
		return fmt.Errorf("read commands.emu: %w", err)
	}
	if err := writeFile(b.path(lanConfFile), conf); err != nil {
		return err
	}
	return writeFile(b.path(commandsFile), commands)
}

func (b *bay) hookCommand() []string { return append(append([]string{}, b.Hook...), b.dir) }

// startBMC starts the baseboard controller. What is returned waits for the
// processes that it consists of.
func (b *bay) startBMC(ctx context.Context) (waits []func() error, err error) {
	if b.Machine.BMC.ipmi() {
		wait, err := b.startService(ctx, bmcProcess, bmcLogFile, simBinary, "-n",
			"-c", b.path(lanConfFile), "-f", b.path(commandsFile), "-s", b.path(bmcDir))
		if err != nil {
			return nil, err
		}
		waits = append(waits, wait)
	}
	if b.Machine.BMC.redfish() {
		address := b.Machine.BMC.Address.String() + redfishPort
		wait, err := b.startService(ctx, redfishPID, redfishLog, append(b.hookCommand(), "redfish", "serve", address)...)
		if err != nil {
			return waits, err
		}
		waits = append(waits, wait)
	}
	return waits, nil
}

// startService starts one of the processes in a session of its own.
func (b *bay) startService(ctx context.Context, pidFile, logFile string, argv ...string) (wait func() error, err error) {
	log, err := os.Create(b.path(logFile))
	if err != nil {
		return nil, fmt.Errorf("make log of the BMC: %w", err)
	}
	defer log.Close()
	// It lives until Down, whatever becomes of whoever builds the rack.
	c := b.Namespace.command(context.WithoutCancel(ctx), argv...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	keepFiles()
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start BMC of %s: %w", b.Machine.Name, err)
	}
	p, err := identify(c.Process.Pid)
	if err == nil {
		err = writeJSON(b.path(pidFile), p)
	}
	if err != nil {
		_ = c.Process.Kill() // nobody could find it later
		_ = c.Wait()
		return nil, fmt.Errorf("start BMC of %s: %w", b.Machine.Name, err)
	}
	return c.Wait, nil
}

// bmcAlive reports whether all that the BMC consists of runs.
func (b *bay) bmcAlive() bool {
	return (!b.Machine.BMC.ipmi() || b.alive(bmcProcess)) && (!b.Machine.BMC.redfish() || b.alive(redfishPID))
}

func (b *bay) alive(file string) bool {
	var p process
	return readJSON(b.path(file), &p) == nil && p.alive()
}

func (b *bay) stopBMC() error {
	return errors.Join(b.stopService(bmcProcess), b.stopService(redfishPID))
}

// stopService ends one of the processes that the BMC consists of.
func (b *bay) stopService(file string) error {
	var p process
	err := readJSON(b.path(file), &p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never started
	}
	if err != nil {
		return err
	}
	// With the hooks that it waits for: they are in its process group, the
	// machines are not.
	if p.alive() {
		_ = unix.Kill(-p.PID, unix.SIGKILL)
	}
	if err := p.end(endWithin); err != nil {
		return fmt.Errorf("stop BMC of %s: %w", b.Machine.Name, err)
	}
	return b.remove(file)
}

const bmcWithin = 10 * time.Second

// awaitBMC waits until the BMC answers. A syntax error in the command file is
// silent and leaves a process that listens to nobody, so being alive is not
// enough.
func (b *bay) awaitBMC(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bmcWithin)
	defer cancel()
	if b.Machine.BMC.redfish() {
		if err := b.awaitRedfish(ctx); err != nil {
			return err
		}
	}
	if !b.Machine.BMC.ipmi() {
		return nil
	}
	conn, err := b.Namespace.dial(ctx, "udp", b.Machine.BMC.Address.String()+":623")
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 512)
	for ctx.Err() == nil {
		if !b.bmcAlive() {
			t, _ := os.ReadFile(b.path(bmcLogFile))
			return fmt.Errorf("the BMC of %s ended: %s", b.Machine.Name, strings.TrimSpace(string(t)))
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		if _, err := conn.Write(authCapabilities[:]); err != nil && !refused(err) {
			return fmt.Errorf("ask the BMC of %s: %w", b.Machine.Name, err)
		}
		if n, err := conn.Read(buf); err == nil && n > 0 {
			return nil
		} else if refused(err) {
			pause(ctx, 50*time.Millisecond)
		}
	}
	return fmt.Errorf("the BMC of %s does not answer within %s; see %s", b.Machine.Name, bmcWithin, b.path(bmcLogFile))
}

// authCapabilities is the IPMI 1.5 message that opens every conversation: Get
// Channel Authentication Capabilities, for this channel, as administrator. It
// needs no session.
var authCapabilities = [...]byte{
	0x06, 0x00, 0xff, 0x07, // RMCP, class IPMI
	0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x09, // no authentication, no session, 9 bytes
	0x20, 0x18, 0xc8, 0x81, 0x00, 0x38, 0x8e, 0x04, 0xb5,
}
