package bmc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// An ipmitoolLine gives each order by a process of the program ipmitool, for
// BMCs that our own driver does not get on with. bmclib's provider runs two to
// four for one operation, and cannot read the boot device back.
type ipmitoolLine struct {
	bootFlagger
	c          *Controller
	target     Target
	host, port string
	suites     []types.CipherSuiteID // to try; the one that works, after it did
}

// ipmitools is how many processes there are at a time: each costs 14 MB.
const ipmitools = 16

const toolSends = 3

const mostSaid = 64 << 10 // bytes of a process's output

// openIPMITool looks whether a BMC is there: the program needs a minute to find
// out that none is.
func (c *Controller) openIPMITool(ctx context.Context, t Target) (*ipmitoolLine, error) {
	host, port, err := t.hostPort()
	if err != nil {
		return nil, err
	}
	conn, err := c.o.Dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	defer conn.Close()
	if err := greet(ctx, conn); err != nil {
		return nil, fmt.Errorf("greet: %w", err)
	}
	reached(ctx)
	l := &ipmitoolLine{c: c, target: t, host: host, port: strconv.Itoa(port), suites: c.gate(t).suites(t.suite())}
	l.bootFlagger = bootFlagger{w: l, quirks: t.Quirks}
	return l, nil
}

// run has the program do one command with the first cipher suite that the BMC
// accepts. Left to itself it tries two, and that counts as two logins.
func (l *ipmitoolLine) run(ctx context.Context, command ...string) (said string, err error) {
	return l.runAt(ctx, pace(resendOrder, toolSends), command...)
}

// runOnce is run for what is sent once. The program waits for the answer until
// it is killed.
func (l *ipmitoolLine) runOnce(ctx context.Context, command ...string) (string, error) {
	return l.runAt(ctx, pace(l.c.timeout(l.target)+resendOrder, 1), command...)
}

// pace is how long the program waits for each answer, and how often it sends.
func pace(wait time.Duration, sends int) []string {
	return []string{"-N", strconv.Itoa(int(wait.Seconds())), "-R", strconv.Itoa(sends)}
}

// runAt is run at a pace.
func (l *ipmitoolLine) runAt(ctx context.Context, pace []string, command ...string) (said string, err error) {
	g := l.c.gate(l.target)
	for _, suite := range l.suites {
		said, err = l.try(ctx, suite, slices.Concat(pace, command)...)
		if err == nil {
			l.suites = []types.CipherSuiteID{suite}
			g.learn(suite)
		}
		if !errors.Is(err, ErrCipher) {
			return said, err
		}
	}
	g.learn(0)
	return said, err
}

// try has one process do one command, after its options, and kills it when time
// is up.
func (l *ipmitoolLine) try(ctx context.Context, suite types.CipherSuiteID, command ...string) (string, error) {
	if err := take(ctx, l.c.tools); err != nil {
		return "", err
	}
	defer func() { <-l.c.tools }()
	args := append([]string{
		"-I", "lanplus", "-H", l.host, "-p", l.port, "-U", l.target.Username, "-E", "-C", strconv.Itoa(int(suite)), "-L", "OPERATOR", "-v",
	}, command...)
	cmd := exec.CommandContext(ctx, cmp.Or(l.c.o.IPMITool, "ipmitool"), args...) //nolint:gosec // our own words, and an address
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+string(l.target.Password), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &capped{&out, mostSaid}, &capped{&said, mostSaid}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: the program ipmitool is not installed on this server", ErrUnsupported)
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", l.failure(said.String())
	}
	admitted(ctx)
	return out.String(), nil
}

// capped keeps the beginning of what is written to it.
type capped struct {
	to   io.Writer
	left int
}

// Write implements io.Writer, and never fails.
func (w *capped) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	_, err := w.to.Write(p[:n])
	return len(p), err
}

// failures are the sentences of ipmitool -v that say what went wrong. Without
// -v it has one for a dead host, a wrong password and a wrong cipher suite.
var failures = []struct {
	says string
	err  error
}{
	{"HMAC is invalid", ErrLogin},
	{"RAKP 2 message indicates an error : unauthorized", ErrLogin},
	{"RAKP 4 message indicates an error : invalid integrity", ErrLogin},
	{"invalid role", ErrDenied},
	{"unauthorized role", ErrDenied},
	{"unauthorized GUID", ErrRejected},
	{"insufficient resources", ErrSessions},
	{"invalid authentication algorithm", ErrCipher},
	{"invalid integrity algorithm", ErrCipher},
	{"invalid confidentiality algorithm", ErrCipher},
	{"no matching", ErrCipher},
	{"no cipher suite match", ErrCipher},
	{"Unable to establish IPMI v2", ErrHangs}, // its greeting was answered
}

// failure names what ipmitool says, which is understood as it is.
func (l *ipmitoolLine) failure(said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	last := fleet.CleanText(lines[len(lines)-1])
	shown := l.target.quote(lines[len(lines)-1])
	for _, f := range failures {
		if strings.Contains(said, f.says) {
			return fmt.Errorf("%w (%s)", f.err, shown)
		}
	}
	switch {
	case strings.Contains(last, "nsufficient privilege"):
		return fmt.Errorf("%w (%s)", ErrDenied, shown)
	case strings.Contains(last, "nvalid command"), strings.Contains(last, "not supported"), lacksInterrupt(last):
		return fmt.Errorf("%w (%s)", ErrUnsupported, shown)
	}
	return fmt.Errorf("%w (%s)", ErrRejected, shown)
}

// lacksInterrupt reports whether ipmitool says what [nameOfInterrupt] translates.
func lacksInterrupt(said string) bool {
	return strings.Contains(said, "Control to Diag failed") && (strings.Contains(said, "out of range") || strings.Contains(said, "nvalid data field"))
}

func (l *ipmitoolLine) power(ctx context.Context) (fleet.PowerState, error) {
	said, err := l.run(ctx, "chassis", "power", "status")
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	return powerState(said), nil
}

func (l *ipmitoolLine) order(ctx context.Context, a action) error {
	words := map[action]string{turnOn: "on", turnOff: "off", softOff: "soft", reset: "reset", diagnose: "diag"}
	run := l.runOnce
	if a.repeatable() {
		run = l.run
	}
	_, err := run(ctx, "chassis", "power", words[a])
	return err
}

// writeBoot writes the boot flags as raw bytes, as our own driver does: what
// ipmitool makes of "bootdev" differs between its versions.
func (l *ipmitoolLine) writeBoot(ctx context.Context, b Boot) error {
	selector, ok := selectors[b.Device]
	if !ok {
		return fmt.Errorf("%w: boot device %q by IPMI", ErrUnsupported, b.Device)
	}
	_, err := l.run(ctx, "raw", "0x00", "0x08", "0x05", fmt.Sprintf("%#02x", b.flags()), fmt.Sprintf("%#02x", uint8(selector)<<2), "0x00", "0x00", "0x00")
	return err
}

// flags is the first byte of the boot flags, IPMI 2.0 table 28-14.
func (b Boot) flags() byte {
	const valid, persist, efi = 1 << 7, 1 << 6, 1 << 5
	flags := byte(valid)
	if !b.Once {
		flags |= persist
	}
	if b.Mode != BIOS {
		flags |= efi
	}
	return flags
}

func (l *ipmitoolLine) bootFlags(ctx context.Context) (f types.BootOptionParam_BootFlags, err error) {
	said, err := l.run(ctx, "raw", "0x00", "0x09", "0x05", "0x00", "0x00")
	if err != nil {
		return f, err
	}
	return parseBootFlags(said)
}

// parseBootFlags reads the answer to Get System Boot Options as ipmitool prints
// it: " 01 05 a0 04 00 00 00".
func parseBootFlags(said string) (f types.BootOptionParam_BootFlags, err error) {
	const header = 2 // version, parameter
	raw, err := hex.DecodeString(strings.Join(strings.Fields(said), ""))
	if err != nil || len(raw) < header {
		return f, fmt.Errorf("%w: ipmitool does not print boot flags", ErrRejected)
	}
	if err := f.Unpack(raw[header:]); err != nil {
		return f, fmt.Errorf("%w: it sends boot flags of %d bytes", ErrRejected, len(raw)-header)
	}
	return f, nil
}

func (l *ipmitoolLine) hangUp(context.Context) {} // a process has no session when it ends
