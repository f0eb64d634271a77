package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hook is what a BMC runs to look at its machine and to move its switches:
// the contract of ipmi_sim's chassis_control and lan_config_program. stateDir
// is the machine's directory; args are what follows it on the command line:
//
//	chassis get power boot ...    prints a line name:value for each
//	chassis set power|reset|shutdown|boot|identify VALUE
//	lan get ip_addr mac_addr ...  the BMC's own address
//	redfish serve ADDRESS         is the BMC that speaks Redfish
//
// The BMC waits for the answer, and takes an error for "cannot be done".
func Hook(ctx context.Context, stateDir string, args []string, stdout io.Writer) error {
	b, err := openBay(stateDir)
	if err != nil {
		return err
	}
	if len(args) < 3 {
		return fmt.Errorf("hook for machine %s: want chassis|lan|redfish VERB NAME, got %q", b.Machine.Name, args)
	}
	verb, rest := args[0]+" "+args[1], args[2:]
	switch verb {
	case "lan get":
		return answer(stdout, rest, b.lanValue)
	case "lan set":
		return nil // the rack decides about addresses; refusing would stop a whole enrolment
	case "chassis get":
		return answer(stdout, rest, b.chassisValue)
	case "chassis set":
		return b.change(ctx, rest)
	case "redfish serve":
		return b.serveRedfish(ctx, rest[0])
	}
	return fmt.Errorf("hook for machine %s: unknown request %q", b.Machine.Name, verb)
}

func answer(w io.Writer, names []string, value func(string) string) error {
	for _, n := range names {
		if _, err := fmt.Fprintf(w, "%s:%s\n", n, value(n)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bay) chassisValue(name string) string {
	switch name {
	case "power":
		if b.running() {
			return "1"
		}
		return "0"
	case "boot":
		return or(b.boot().Device, "none")
	}
	return "0"
}

func (b *bay) lanValue(name string) string {
	switch name {
	case "ip_addr":
		return b.Machine.BMC.Address.String()
	case "ip_addr_src":
		return "static"
	case "mac_addr":
		return fmt.Sprintf("52:54:00:77:01:%02x", b.Machine.BMC.Address.As4()[3])
	case "subnet_mask":
		return "255.255.255.0"
	case "default_gw_ip_addr":
		return serverBMCNet.Addr().String()
	case "default_gw_mac_addr", "backup_gw_mac_addr":
		return "00:00:00:00:00:00"
	}
	return "0.0.0.0"
}

// change moves one switch, or misbehaves when a test has asked for that.
func (b *bay) change(ctx context.Context, args []string) error {
	unlock, err := b.lock()
	if err != nil {
		return err
	}
	defer unlock()
	acts, err := b.fault().suffer(ctx)
	if err != nil || !acts {
		return err
	}
	what, value := args[0], strings.Join(args[1:], " ")
	switch what + " " + value {
	case "power 1":
		return b.start(ctx)
	case "power 0":
		return b.stop()
	case "reset 1":
		return b.reset(ctx)
	case "shutdown 1":
		return b.press(ctx)
	case "nmi 1":
		return b.interrupt(ctx)
	}
	switch what {
	case "boot":
		return b.setBoot(override{Device: value})
	case "identify":
		return nil // no lamp
	}
	return fmt.Errorf("machine %s has no switch %q %q", b.Machine.Name, what, value)
}

// A Fault is a way in which a BMC misbehaves when it is told to do something.
// Questions are answered truthfully all the same, unless it hangs.
type Fault struct {
	Slow  time.Duration `json:"slow,omitempty"`  // acts this much later
	Error bool          `json:"error,omitempty"` // says that it cannot
	Lying bool          `json:"lying,omitempty"` // says that it did, and does nothing
	Hangs bool          `json:"hangs,omitempty"` // is there, and answers nothing: its processes are stopped
}

// suffer reports whether the BMC shall still act.
func (f Fault) suffer(ctx context.Context) (bool, error) {
	if f.Slow > 0 {
		t := time.NewTimer(f.Slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if f.Error {
		return false, fmt.Errorf("fault injected")
	}
	return !f.Lying, nil
}

// fault reads what [Rack.SetFault] wrote; a missing file means none.
func (b *bay) fault() Fault {
	var f Fault
	if err := readJSON(b.path(faultFile), &f); err != nil {
		return Fault{}
	}
	return f
}

func (b *bay) setFault(f Fault) error {
	if err := b.freeze(f.Hangs); err != nil {
		return err
	}
	if f == (Fault{}) {
		return b.remove(faultFile)
	}
	return writeJSON(b.path(faultFile), f)
}

// freeze stops what the BMC consists of, or lets it go on.
func (b *bay) freeze(hangs bool) error {
	sig := unix.SIGCONT
	if hangs {
		sig = unix.SIGSTOP
	}
	var errs []error
	for _, file := range []string{bmcProcess, redfishPID} {
		var p process
		if err := readJSON(b.path(file), &p); err != nil {
			continue // it has none
		}
		errs = append(errs, p.signal(sig))
	}
	return errors.Join(errs...)
}
