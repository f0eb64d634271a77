package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/lab"
)

// A BIOS machine has its address, and the server is killed before it asks for
// its script: iPXE in its card is refused, goes on to the empty disk and stands
// there. The next server starts it again, long before a try would be over.
func TestAMachineThatWasRefusedItsScriptIsStartedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: make test runs it")
	}
	t.Parallel()
	r := testRack(t, labSite, lab.DefaultRack(1)...)
	if err := r.enrol(t.Context(), t.Logf); err != nil {
		t.Fatal(err)
	}
	acked, refused := make(chan struct{}, 1), make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	wait, err := r.rack.Capture(ctx, func(_ time.Time, frame []byte) {
		seen(acked, isACK(frame))
		seen(refused, isRefusal(frame))
	})
	if err != nil {
		t.Fatal(err)
	}
	run := r.start(t)
	await(t, acked, "an address for the machine")
	if err := r.stopServer(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, refused, "a refused connection to the server that was killed")
	stop()
	if err := wait(); err != nil {
		t.Error(err)
	}
	if err := r.startServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	greeted := func(r api.Run) bool {
		return slices.ContainsFunc(r.Nodes[0].Times, func(p api.PhaseTime) bool { return p.Phase == "hello" })
	}
	until(t, 25*time.Minute, "its agent said hello", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && (greeted(got) || !got.Ended.IsZero()), err
	})
	t.Logf("hello %s after the server was back", time.Since(begin).Round(time.Second))
	notes := run.Nodes[0].Notes
	if !greeted(run) || len(notes) != 1 || !strings.HasPrefix(notes[0], "the server was restarted while it booted") {
		t.Errorf("run is %s, with notes %q: %+v", run.State, notes, run.Nodes)
	}
}

func seen(ch chan<- struct{}, is bool) {
	if !is {
		return
	}
	select {
	case ch <- struct{}{}:
	default: // it was seen before
	}
}

func await(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Minute):
		t.Fatalf("%s: not within 5 minutes", what)
	}
}

// isACK reports whether a DHCP server gives an address in the frame.
func isACK(frame []byte) bool {
	udp := ofIPv4(frame, syscall.IPPROTO_UDP)
	return len(udp) > 8 && udp[0] == 0 && udp[1] == 67 && bytes.Contains(udp, []byte{53, 1, 5})
}

// isRefusal reports whether nobody listens at the boot port, as the frame says.
func isRefusal(frame []byte) bool {
	tcp := ofIPv4(frame, syscall.IPPROTO_TCP)
	return len(tcp) > 13 && tcp[0] == 0 && tcp[1] == 80 && tcp[13]&4 != 0
}

// ofIPv4 returns what an IPv4 packet of a protocol carries; nil for other frames.
func ofIPv4(frame []byte, protocol byte) []byte {
	const link = 14
	if len(frame) < link+20 || frame[12] != 8 || frame[13] != 0 || frame[link+9] != protocol {
		return nil
	}
	return frame[min(len(frame), link+int(frame[link]&15)*4):]
}
