package http

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/internal/throttle"
)

// serveFew is serveFirmware with room for so many connections.
func serveFew(t *testing.T, perAddr, inAll int, change ...func(*Options)) (l *sill, s *Server) {
	t.Helper()
	s, _ = newTestServer(t, change...)
	s.bootDoor = throttle.NewDoorkeeper(perAddr, inAll)
	l = &sill{Listener: listen(t)}
	run(t, s, Listeners{Boot: []net.Listener{l}})
	return l, s
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
			l, s := serveFew(t, 8, 8)
			addr := l.Addr().String()
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

// dialNarrow is dial with a small window from the first packet on.
func dialNarrow(t *testing.T, to, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A sill is a listener that keeps what it accepted, and gives it little room: what
// is sent to who does not read is soon more than the kernel takes, on a slow
// machine too.
type sill struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

// Accept implements net.Listener.
func (l *sill) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, tcp)
	return conn, tcp.SetWriteBuffer(16 << 10)
}

// accepted returns the connections that have come so far.
func (l *sill) accepted() []*net.TCPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.conns)
}

// awaitUseless waits until so many have come, and each of them is gone or has not
// taken what was sent to it for longer than the door is patient.
func (l *sill) awaitUseless(t *testing.T, conns int) {
	t.Helper()
	useless := map[*net.TCPConn]bool{}
	for i := 0; len(useless) < conns; i++ {
		for _, conn := range l.accepted() {
			if !useless[conn] && isStuck(conn) {
				useless[conn] = true
			}
		}
		if <-time.After(10 * time.Millisecond); i > 3000 {
			t.Fatalf("of %d connections %d are of no use", len(l.accepted()), len(useless))
		}
	}
}

// isStuck asks the kernel whether an answer is stuck; true, too, when the
// connection is closed.
func isStuck(conn *net.TCPConn) (stuck bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		stuck = err == nil && info.Notsent_bytes > 0 && time.Duration(info.Last_data_sent)*time.Millisecond > patienceOfTheDoor
	})
	return stuck || err != nil
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
		idle    bool // it gets no answer
	}{
		"who reads nothing, from one address":       {256, one, func(net.Conn) {}, asksRamdisk, false},
		"who reads nothing, from many addresses":    {256, many, func(net.Conn) {}, asksRamdisk, false},
		"who reads slowly, from one address":        {256, one, trickle, asksRamdisk, false},
		"who reads slowly, from many addresses":     {256, many, trickle, asksRamdisk, false},
		"who asks for scripts and does not read":    {256, many, func(net.Conn) {}, strings.Repeat(ipxeAsks, 500), false},
		"who uses up what one address may hold":     {64, func(int) string { return "127.0.0.77" }, trickle, asksRamdisk, false},
		"who uses it up and says half a request":    {64, func(int) string { return "127.0.0.77" }, trickle, "GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ", true},
		"who fills both, and comes again and again": {64, func(i int) string { return many(i % 5) }, trickle, asksRamdisk, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, s := serveFew(t, tt.perAddr, 256, func(o *Options) {
				if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), size); err != nil {
					t.Fatal(err)
				}
			})
			var all sync.WaitGroup
			t.Cleanup(all.Wait)
			for i := range 256 {
				conn := dialNarrow(t, l.Addr().String(), tt.from(i))
				all.Go(func() {
					_, _ = io.WriteString(conn, tt.asks)
					tt.read(conn)
				})
			}
			if !tt.idle {
				l.awaitUseless(t, 256)
			}
			for range 5 {
				quick(t, l.Addr().String())
			}
			got := s.BootStats()
			if made := got.ConnsPushedOut; !tt.idle && made == 0 {
				t.Errorf("%d busy connections made room: %+v", made, got)
			}
			if made := got.ConnsGaveWay; tt.idle && made == 0 {
				t.Errorf("%d idle connections made room: %+v", made, got)
			}
			if late := got.SlowHeaders + got.IdleClosed + got.StalledReaders; late > 0 {
				t.Errorf("%d connections ended by themselves, so nobody knows who made room: %+v", late, got)
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
	l, s := serveFew(t, 32, 32, func(o *Options) {
		if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), size); err != nil {
			t.Fatal(err)
		}
	})
	addr := l.Addr().String()
	for range 31 {
		_, _ = io.WriteString(dialNarrow(t, addr, "127.0.0.66"), asksRamdisk)
	}
	l.awaitUseless(t, 31)
	conn := dial(t, addr, "127.0.0.67")
	_, _ = io.WriteString(conn, strings.Replace(asksRamdisk, "Host: x", "Host: x\r\nConnection: close", 1))
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, pacedReader{conn})
		got <- n
	}()
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
