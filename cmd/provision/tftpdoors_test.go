package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func TestTFTPFollowsTheAddressesOfItsInterfaces(t *testing.T) {
	done := make(chan struct{})
	go func() { // its thread is in a network of its own, and ends with it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		followInNamespace(t)
	}()
	<-done
}

func followInNamespace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan string, 10)
	var failed atomic.Bool
	reopened := false
	d := &tftpDoors{
		interfaces: []string{"lo"}, log: slog.New(slog.DiscardHandler), group: &errgroup.Group{}, at: map[netip.Addr]tftpDoor{},
		serve: func(ctx context.Context, c net.PacketConn) error {
			if c.LocalAddr().String() == "[fd09::1]:69" && !failed.Swap(true) {
				return errors.Join(errors.New("it ends early"), c.Close())
			}
			<-ctx.Done()
			at := c.LocalAddr().String()
			err := c.Close()
			closed <- at
			return err
		},
	}
	for _, step := range []struct{ ip, open, closed string }{
		{"link set lo up", "127.0.0.1 ::1", ""},
		{"address add 10.9.0.1/32 dev lo", "10.9.0.1 127.0.0.1 ::1", ""},
		{"address add fd09::1/128 dev lo", "10.9.0.1 127.0.0.1 ::1 fd09::1", ""},
		{"address delete 10.9.0.1/32 dev lo", "127.0.0.1 ::1 fd09::1", "10.9.0.1:69"},
		{"address add 10.9.0.1/32 dev lo", "10.9.0.1 127.0.0.1 ::1 fd09::1", ""},
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(step.ip)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v: %s", step.ip, err, out)
			break
		}
		d.look(ctx)
		if step.closed != "" {
			if got := <-closed; got != step.closed {
				t.Errorf("after %s: %s was closed, want %s", step.ip, got, step.closed)
			}
		}
		if door, ok := d.at[netip.MustParseAddr("fd09::1")]; ok && !reopened {
			<-door.over // it is opened again when it is looked at again
			reopened = true
			d.look(ctx)
		}
		var open []string
		for a := range d.at {
			open = append(open, a.String())
		}
		slices.Sort(open)
		if got := strings.Join(open, " "); got != step.open {
			t.Errorf("after %s: open at %q, want %q", step.ip, got, step.open)
		}
	}
	cancel()
	if err := d.group.Wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
}
