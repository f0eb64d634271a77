package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// servesHTTP serves with a door of so many places for each source, until the
// test ends.
func (r *Relay) servesHTTP(t *testing.T, places int) (at string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	keeper := throttle.NewDoorkeeper(places, connsInAll)
	r.tally.files.Store(keeper)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.serveHTTP(ctx, l, keeper) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// says sends what a machine says on a connection of its own, and returns the
// status of the answer.
func says(t *testing.T, at, what string) int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(conn, what) }()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestWhatTheDoorOfARelayRefusesIsCountedAndReported(t *testing.T) {
	r := alone(t)
	at := r.servesHTTP(t, 1)
	idle, err := new(net.Dialer).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	await(t, "admitted", func() bool { return r.tally.files.Load().Held() == 1 })
	for what, want := range map[string]int{
		"POST /boot/vmlinuz HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n":                                                 405,
		"GET /boot/vmlinuz HTTP/1.1\r\nHost: r\r\nConnection: close\r\nX: " + strings.Repeat("x", 13<<10) + "\r\n\r\n":        431,
		"GET /boot/vmlinuz HTTP/1.1\r\nHost: r\r\nConnection: close\r\nX: " + strings.Repeat("x", bootHeaders/2) + "\r\n\r\n": 200,
		"no request\r\n\r\n": 400,
	} {
		if got := says(t, at, what); got != want {
			t.Errorf("%.40q is answered with %d, want %d", what, got, want)
		}
		await(t, "let go", func() bool { return r.tally.files.Load().Held() == 0 })
	}
	got := r.reportNow(nil).Usage.HTTP
	if got.BadMethods != 1 || got.HeadersTooLarge != 1 || got.BadRequests != 1 || got.ConnsGaveWay != 1 || got.SlowHeaders+got.StalledReaders+got.Panics != 0 {
		t.Errorf("it reports %+v; want one of each: bad method, too large, no request, gave way", got)
	}
}

func TestWhatTheDoorOfAgentsRefusesIsCountedAndReported(t *testing.T) {
	r := alone(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	keeper := throttle.NewDoorkeeper(1, agentsInAll)
	r.tally.agents.Store(keeper)
	away, back := net.Pipe() // holds the only place of its source, and is not idle
	defer away.Close()
	defer back.Close()
	keeper.Admit(from127{away}).Busy(time.Now())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.carryAgents(ctx, l, keeper) }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the agent hears %d bytes, %v; want to be refused", n, err)
	}
	if got := r.reportNow(nil).Usage.HTTP; got.AgentConns != 1 || got.AllRefused() != 1 {
		t.Errorf("it reports %+v, want one connection of an agent", got)
	}
	stop()
	_ = l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// from127 is a connection of this machine.
type from127 struct{ net.Conn }

func (from127) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711} }

// TestWhatARelayRefusesByTFTPIsCountedAndReported also of an address that it has
// no more.
func TestWhatARelayRefusesByTFTPIsCountedAndReported(t *testing.T) {
	r := alone(t)
	for door := int64(1); door <= 2; door++ {
		conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.serveTFTP(ctx, conn) }()
		machine, err := new(net.Dialer).DialContext(t.Context(), "udp4", conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(machine, "\x00\x01vmlinuz\x00octet\x00"); err != nil { // of no subnet of the relay's
			t.Fatal(err)
		}
		await(t, "counted", func() bool { return r.reportNow(nil).Usage.TFTP.Strangers == door })
		_ = machine.Close()
		stop()
		_ = conn.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := r.reportNow(nil).Usage.TFTP; got.Strangers != 2 || got.Panics != 0 {
		t.Errorf("with no door left it reports %+v, want both strangers", got)
	}
}
