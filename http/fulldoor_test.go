package http

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// serveFew is serveFirmware with room for so many connections.
func serveFew(t *testing.T, perAddr, inAll int, change ...func(*Options)) (addr string, s *Server) {
	t.Helper()
	s, _ = newTestServer(t, change...)
	s.bootDoor = throttle.NewDoorkeeper(perAddr, inAll)
	l := listen(t)
	run(t, s, Listeners{Boot: []net.Listener{l}})
	return l.Addr().String(), s
}

// Whoever fills the boot door, and whichever side of it he stands at, a machine
// that is switched on gets its script.
func TestWhenTheDoorIsFullWhoIsIdleGivesWay(t *testing.T) {
	tests := map[string]struct {
		says   string
		answer string // how what is waited for begins
	}{
		"silent":              {"", ""},
		"after its script":    {ipxeAsks, "HTTP/1.1 200"},
		"after a file":        {"GET /boot/nothing HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"},
		"with half a request": {"GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, s := serveFew(t, 8, 8)
			var all []net.Conn
			for range 8 {
				conn := dial(t, addr, "127.0.0.66")
				_, _ = io.WriteString(conn, tt.says)
				got := make([]byte, len(tt.answer))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != tt.answer {
					t.Fatalf("answer %q, %v; want %q", got, err, tt.answer)
				}
				all = append(all, conn)
			}
			late := newFirmware(t, addr, "127.0.0.67")
			if status, _, _ := late.ask("GET /boot/ipxe?do=local HTTP/1.1\nHost: x"); status != "HTTP/1.1 200 OK" {
				t.Errorf("a machine is answered %q, want its script", status)
			}
			open := 0
			for _, conn := range all {
				_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
					open++
				}
			}
			if open != 7 {
				t.Errorf("%d of 8 connections are open, want 7", open)
			}
			if got := s.BootStats(); got.ConnsGaveWay != 1 || got.ConnsInAll != 0 {
				t.Errorf("%d connections gave way, %d were refused; want 1 and 0", got.ConnsGaveWay, got.ConnsInAll)
			}
		})
	}
}

func TestNobodyGivesWayWhileAFileGoesOut(t *testing.T) {
	const size = 60 << 20
	addr, s := serveFew(t, 4, 4, func(o *Options) {
		if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), size); err != nil {
			t.Fatal(err)
		}
	})
	var all []net.Conn
	for range 4 {
		conn := dial(t, addr, "127.0.0.66")
		_, _ = io.WriteString(conn, "GET /boot/initrd.img HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	late := dial(t, addr, "127.0.0.67")
	_ = late.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := late.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("one more than the door holds: %v, want the end", err)
	}
	if got := s.BootStats(); got.ConnsGaveWay != 0 || got.ConnsInAll != 1 {
		t.Errorf("%d connections gave way, %d were refused; want 0 and 1", got.ConnsGaveWay, got.ConnsInAll)
	}
	for _, conn := range all {
		if n, err := io.Copy(io.Discard, conn); n < size-100 || err != nil {
			t.Errorf("%d bytes of a file that went out, %v; want all", n, err)
		}
	}
}
