package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"

	"github.com/rackstage/provision/internal/throttle"
)

// dial connects from a given loopback address ("": any).
func dial(t *testing.T, to, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// listen returns a listener on a free loopback port.
func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// run serves until the test ends.
func run(tb testing.TB, s *Server, l Listeners) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run = %v", err)
		}
	})
}

func TestSlowClientsCostThemselvesOnly(t *testing.T) {
	s, _ := newTestServer(t)
	s.bootDoor = throttle.NewDoorkeeper(connsPerAddr, connsInAll)
	l := listen(t)
	run(t, s, Listeners{Boot: []net.Listener{l}})
	var all []net.Conn
	for range 2 * connsPerAddr {
		conn := dial(t, l.Addr().String(), "127.0.0.2")
		fmt.Fprint(conn, "GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ") // and then nothing
		all = append(all, conn)
	}
	for i := 0; s.BootStats().ConnsGaveWay < connsPerAddr; i++ {
		if <-time.After(10 * time.Millisecond); i > 500 {
			t.Fatalf("%d slow connections of one address gave way, want %d", s.BootStats().ConnsGaveWay, connsPerAddr)
		}
	}
	cut := 0
	for _, conn := range all {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			cut++
		}
	}
	if cut != connsPerAddr {
		t.Errorf("%d of %d slow connections of one address were cut, want all beyond %d", cut, 2*connsPerAddr, connsPerAddr)
	}
	begin := time.Now()
	res, body := fetch(t, "http://"+l.Addr().String(), "GET", "/boot/vmlinuz")
	if took := time.Since(begin); res.StatusCode != 200 || len(body) != 20 || took > 2*time.Second {
		t.Errorf("another machine: status %d, %d bytes in %s; want its file at once", res.StatusCode, len(body), took)
	}
}

func TestEveryListenerHasItsLimits(t *testing.T) {
	s, _ := newTestServer(t)
	server := s.httpServer(http.NotFoundHandler(), doorTLS)
	if server.ReadHeaderTimeout != 10*time.Second || server.IdleTimeout == 0 || server.MaxHeaderBytes != 64<<10 || server.WriteTimeout != 0 {
		t.Errorf("limits = %v, %v, %d, %v", server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes, server.WriteTimeout)
	}
}

func TestTheSocketIsTheLocalAdministratorsDoor(t *testing.T) {
	s, e := newTestServer(t)
	path := filepath.Join(t.TempDir(), "run", "api.sock")
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, Listeners{Local: []net.Listener{l}})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket = %v, %v; want 0600", info.Mode(), err)
	}
	c, err := api.NewClient(api.ClientOptions{Server: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Approve(t.Context(), "n-0000000002"); err != nil {
		t.Fatal(err)
	}
	if got, want := e.events[0].Actor, fmt.Sprintf("local/%d", os.Geteuid()); got != want {
		t.Errorf("actor = %q, want %q", got, want)
	}
	if _, err := ListenLocal(path); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("second server on the socket: %v, want an error that says so", err)
	}
}

func TestASocketThatNobodyServesIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = old.Close()
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestStrangersOnTheSocketAreTurnedAway(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"another user":        context.WithValue(t.Context(), keyPeer, uint32(54321)),
		"nobody can say whom": t.Context(),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := localUser(ctx); problemOf(err).Status != http.StatusForbidden {
				t.Errorf("localUser = %v, want 403", err)
			}
		})
	}
}

func TestWithoutTLSTheConsoleStaysOnLoopback(t *testing.T) {
	s, _ := newTestServer(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Run(t.Context(), Listeners{Plain: []net.Listener{l}}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Run = %v, want an error about loopback", err)
	}
}

func TestStopEndsStreamsAndPolls(t *testing.T) {
	s, _ := newTestServer(t)
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, Listeners{Plain: []net.Listener{l}}) }()
	req, _ := http.NewRequest("GET", "http://"+l.Addr().String()+"/api/v1/events", nil)
	req.Header.Set("Authorization", "Bearer viewer")
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cancel()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("the stream ended with %v, want a clean end", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}
