package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A yard is a network namespace with BMCs in it. Loopback has an address for
// each that is alive; those of the dead are beyond an interface that leads
// nowhere.
type yard struct {
	name string
	bmcs *exec.Cmd
	stop io.Closer // the BMCs end when this is closed
	said bytes.Buffer
}

const deadInterface = "dead0"

// aliveAt and deadAt are the addresses of the i-th BMC.
func aliveAt(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 77, byte(i / 250), byte(1 + i%250)})
}

func deadAt(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 99, byte(i / 250), byte(2 + i%250)})
}

// newYard makes the namespace and starts BMCs of one kind in it.
func (b *bench) newYard(ctx context.Context, k kind) (*yard, error) {
	y := &yard{name: "bmcs" + strconv.Itoa(os.Getpid())}
	for _, args := range [][]string{
		{"netns", "add", y.name},
		{"-n", y.name, "link", "set", "lo", "up"},
		{"-n", y.name, "link", "add", deadInterface, "type", "bridge"},
		{"-n", y.name, "address", "add", "10.99.0.1/16", "dev", deadInterface},
		{"-n", y.name, "link", "set", deadInterface, "arp", "off", "up"}, // a bridge without ports
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out), y.close())
		}
	}
	if err := y.populate(ctx, k, b); err != nil {
		return nil, errors.Join(err, y.close())
	}
	return y, nil
}

// command prepares this program in the yard.
func (y *yard) command(ctx context.Context, role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+y.name, "--", self, role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

const populateWithin = 2 * time.Minute

// populate starts the BMCs and waits until they are all there.
func (y *yard) populate(ctx context.Context, k kind, b *bench) error {
	cmd, err := y.command(ctx, "bmcs")
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = &y.said
	if err := cmd.Start(); err != nil {
		return err
	}
	y.bmcs, y.stop = cmd, in
	if err := json.NewEncoder(in).Encode(crowd{Kind: k.name, N: b.n, Dir: b.dir}); err != nil {
		return err
	}
	late := time.AfterFunc(populateWithin, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != ready {
		return fmt.Errorf("%d BMCs did not start within %s: %q, %w: %s", b.n, populateWithin, line, err, y.said.Bytes())
	}
	return nil
}

// close ends the BMCs and takes the namespace away.
func (y *yard) close() error {
	var err error
	if y.bmcs != nil {
		late := time.AfterFunc(time.Minute, func() { _ = y.bmcs.Process.Kill() })
		defer late.Stop()
		err = y.stop.Close()
		if wait := y.bmcs.Wait(); wait != nil {
			err = errors.Join(err, fmt.Errorf("the BMCs: %w: %s", wait, y.said.Bytes()))
		}
	}
	out, gone := exec.Command("ip", "netns", "delete", y.name).CombinedOutput() //nolint:noctx // after Ctrl-C too
	if gone != nil && !bytes.Contains(out, []byte("No such file")) {
		err = errors.Join(err, fmt.Errorf("ip netns delete %s: %w: %s", y.name, gone, out))
	}
	return err
}

// ask lets a client do a job, in a process of its own.
func (y *yard) ask(ctx context.Context, j job) (result, error) {
	var r result
	cmd, err := y.command(ctx, "client")
	if err != nil {
		return r, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &said
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("client: %w: %s", err, said.Bytes())
	}
	return r, decode(out.Bytes(), &r)
}
