package http

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// A hostile host has the doors full of connections that ask for a ramdisk and do
// not take it, from one address or from all that it makes up.
func TestWhoDoesNotTakeItsAnswerGivesWay(t *testing.T) {
	const size = 60 << 20
	trickle := func(conn net.Conn) { // a byte each 100 ms
		for _, err := conn.Read(make([]byte, 1)); err == nil; _, err = conn.Read(make([]byte, 1)) {
			<-time.After(100 * time.Millisecond)
		}
	}
	tests := map[string]struct {
		perAddr int
		from    func(i int) string
		read    func(net.Conn)
		asks    string
		idle    bool // or so it seems now and then
	}{
		"who reads nothing, from one address":       {256, one, func(net.Conn) {}, asksRamdisk, false},
		"who reads nothing, from many addresses":    {256, many, func(net.Conn) {}, asksRamdisk, false},
		"who reads slowly, from one address":        {256, one, trickle, asksRamdisk, false},
		"who reads slowly, from many addresses":     {256, many, trickle, asksRamdisk, false},
		"who asks for scripts and does not read":    {256, many, func(net.Conn) {}, strings.Repeat(ipxeAsks, 20_000), true},
		"who uses up what one address may hold":     {64, func(int) string { return "127.0.0.77" }, trickle, asksRamdisk, false},
		"who uses it up and says half a request":    {64, func(int) string { return "127.0.0.77" }, trickle, "GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ", true},
		"who fills both, and comes again and again": {64, func(i int) string { return many(i % 5) }, trickle, asksRamdisk, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, s := serveFew(t, tt.perAddr, 256, func(o *Options) {
				if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), size); err != nil {
					t.Fatal(err)
				}
			})
			var all sync.WaitGroup
			t.Cleanup(all.Wait)
			for i := range 256 {
				conn := dial(t, addr, tt.from(i))
				_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
				all.Go(func() {
					_, _ = io.WriteString(conn, tt.asks)
					tt.read(conn)
				})
			}
			<-time.After(2 * patienceOfTheDoor)
			for range 5 {
				if took := quick(t, addr); took > time.Second {
					t.Errorf("a machine waited %s", took)
				}
			}
			got := s.BootStats()
			if idle := got.ConnsGaveWay > 0; got.ConnsPushedOut == 0 && (!tt.idle || !idle) {
				t.Errorf("%d busy connections and %d idle ones made room", got.ConnsPushedOut, got.ConnsGaveWay)
			}
		})
	}
}

const (
	asksRamdisk       = "GET /boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n"
	patienceOfTheDoor = 250 * time.Millisecond
)

func one(int) string    { return "127.0.0.66" }
func many(i int) string { return fmt.Sprintf("127.0.2.%d", 1+i%250) }

func TestWhoTakesItsAnswerGetsAllOfItThroughAFullDoor(t *testing.T) {
	const size = 8 << 20
	addr, s := serveFew(t, 32, 32, func(o *Options) {
		if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), size); err != nil {
			t.Fatal(err)
		}
	})
	for range 31 {
		_, _ = io.WriteString(dial(t, addr, "127.0.0.66"), asksRamdisk)
	}
	conn := dial(t, addr, "127.0.0.67")
	_, _ = io.WriteString(conn, strings.Replace(asksRamdisk, "Host: x", "Host: x\r\nConnection: close", 1))
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, pacedReader{conn})
		got <- n
	}()
	<-time.After(2 * patienceOfTheDoor)
	for range 20 {
		late := newFirmware(t, addr, "127.0.0.68")
		if status, _, _ := late.ask("GET /boot/ipxe?do=local HTTP/1.1\nHost: x"); status != "HTTP/1.1 200 OK" {
			t.Errorf("a machine is answered %q, want its script", status)
		}
	}
	if n := <-got; n < size {
		t.Errorf("%d bytes of %d came", n, size)
	}
	if c := s.BootStats(); c.ConnsPushedOut < 10 || c.ConnsPushedOut+c.ConnsGaveWay != 20 || c.ConnsInAll+c.ConnsOfAddress != 0 {
		t.Errorf("counted %+v, want room for 20", c)
	}
}

// A pacedReader takes 8 MB a second, about.
type pacedReader struct{ io.Reader }

func (r pacedReader) Read(b []byte) (int, error) {
	<-time.After(4 * time.Millisecond)
	return r.Reader.Read(b)
}
