package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/http/bootfile"
)

// A firmware speaks HTTP by hand, as firmware does: what it says goes out as
// it stands, and its answers are read byte by byte.
type firmware struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newFirmware(t *testing.T, addr, from string) *firmware {
	t.Helper()
	conn := dial(t, addr, from)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &firmware{t, conn, bufio.NewReader(conn)}
}

// ask sends a request and returns the status line, the headers and the body,
// which has the length that its header says. There is no other way for old
// firmware to know where an answer ends.
func (f *firmware) ask(request string) (status string, headers http.Header, body string) {
	f.t.Helper()
	_, _ = io.WriteString(f.conn, strings.ReplaceAll(request, "\n", "\r\n")+"\r\n\r\n")
	headers = http.Header{}
	for first := true; ; first = false {
		line, err := f.in.ReadString('\n')
		if err != nil {
			f.t.Fatalf("answer to %q: %v", request, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if first {
			status = line
			continue
		}
		if line == "" {
			break
		}
		key, value, _ := strings.Cut(line, ": ")
		headers.Add(key, value)
	}
	n, err := strconv.Atoi(headers.Get("Content-Length"))
	switch {
	case strings.Contains(status, " 304 "):
		return status, headers, ""
	case err != nil || headers.Get("Transfer-Encoding") != "":
		f.t.Fatalf("%q is answered without a length: %v", request, headers)
	case strings.HasPrefix(request, "HEAD"):
		return status, headers, ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(f.in, b); err != nil {
		f.t.Fatalf("body of %q: %v", request, err)
	}
	return status, headers, string(b)
}

// open reports whether the server keeps the connection.
func (f *firmware) open() bool {
	_ = f.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := f.in.ReadByte()
	nerr, ok := err.(net.Error) //nolint:errorlint // as it comes from the connection
	return ok && nerr.Timeout()
}

// serveFirmware runs the boot listener with all of its limits.
func serveFirmware(t *testing.T, change ...func(*Options)) (addr string, s *Server) {
	t.Helper()
	s, _ = newTestServer(t, change...)
	l := listen(t)
	run(t, s, Listeners{Boot: []net.Listener{l}})
	return l.Addr().String(), s
}

func TestOldFirmwareIsServed(t *testing.T) {
	addr, _ := serveFirmware(t)
	tests := map[string]struct {
		request string
		status  string
		body    string
		open    bool
	}{
		"HTTP/1.0":                           {"GET /boot/vmlinuz HTTP/1.0", "HTTP/1.0 200 OK", "kernel kernel kernel", false},
		"HTTP/1.0 without a host":            {"GET /boot/vmlinuz HTTP/1.0\nUser-Agent: iPXE/1.0.0", "HTTP/1.0 200 OK", "kernel kernel kernel", false},
		"HTTP/1.0 that keeps the connection": {"GET /boot/vmlinuz HTTP/1.0\nConnection: keep-alive", "HTTP/1.0 200 OK", "kernel kernel kernel", true},
		"HTTP/1.1":                           {"GET /boot/vmlinuz HTTP/1.1\nHost: 10.77.0.1", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
		"HTTP/1.1 that closes":               {"GET /boot/vmlinuz HTTP/1.1\nHost: x\nConnection: close", "HTTP/1.1 200 OK", "kernel kernel kernel", false},
		"a whole URL, as a proxy is asked":   {"GET http://10.77.0.1/boot/vmlinuz HTTP/1.1\nHost: 10.77.0.1", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
		"double slashes":                     {"GET /boot//vmlinuz HTTP/1.1\nHost: x", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
		"double slashes in front":            {"GET //boot/vmlinuz HTTP/1.1\nHost: x", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
		"HEAD":                               {"HEAD /boot/vmlinuz HTTP/1.1\nHost: x", "HTTP/1.1 200 OK", "", true},
		"HEAD by HTTP/1.0":                   {"HEAD /boot/vmlinuz HTTP/1.0", "HTTP/1.0 200 OK", "", false},
		"a part":                             {"GET /boot/vmlinuz HTTP/1.1\nHost: x\nRange: bytes=7-12", "HTTP/1.1 206 Partial Content", "kernel", true},
		"what is not there":                  {"GET /boot/nothing HTTP/1.1\nHost: x", "HTTP/1.1 404 Not Found", "404 page not found\n", true},
		"a script":                           {"GET /boot/ipxe HTTP/1.0", "HTTP/1.0 200 OK", "#!ipxe\n", false},
		"an Expect header":                   {"GET /boot/vmlinuz HTTP/1.1\nHost: x\nAccept-Encoding: gzip, identity", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
		"POST":                               {"POST /boot/vmlinuz HTTP/1.1\nHost: x\nContent-Length: 0", "HTTP/1.1 405 Method Not Allowed", "GET or HEAD only\n", true},
		"a part of a file that changed in between": {"GET /boot/vmlinuz HTTP/1.1\nHost: x\nRange: bytes=7-12\nIf-Range: \"another\"", "HTTP/1.1 200 OK", "kernel kernel kernel", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFirmware(t, addr, "")
			status, headers, body := f.ask(tt.request)
			if status != tt.status || !strings.HasPrefix(body, tt.body) {
				t.Fatalf("answer %q %q, want %q %q", status, body, tt.status, tt.body)
			}
			if f.open() != tt.open {
				t.Errorf("the connection stays open: %v, want %v", !tt.open, tt.open)
			}
			for _, odd := range []string{"Server", "Set-Cookie", "Content-Encoding", "Location", "Vary"} {
				if headers.Get(odd) != "" {
					t.Errorf("the answer has %s: %s", odd, headers.Get(odd))
				}
			}
		})
	}
}

// One connection is used for all of a boot.
func TestAConnectionServesAWholeBoot(t *testing.T) {
	addr, s := serveFirmware(t)
	f := newFirmware(t, addr, "")
	_, headers, _ := f.ask("HEAD /boot/initrd.img HTTP/1.1\nHost: x")
	var got []string
	for _, request := range []string{
		"GET /boot/initrd.img HTTP/1.1\nHost: x",
		"GET /boot/initrd.img HTTP/1.1\nHost: x\nIf-None-Match: " + headers.Get("ETag"),
		"GET /boot/initrd.img HTTP/1.1\nHost: x\nRange: bytes=524280-",
		"GET /boot/ipxe?mac=52-54-00-00-00-01 HTTP/1.1\nHost: x",
		"GET /boot/snponly.efi HTTP/1.1\nHost: x",
	} {
		status, _, body := f.ask(request)
		got = append(got, fmt.Sprintf("%s %d", status[9:12], len(body)))
	}
	if want := []string{"200 524288", "304 0", "206 8", got[3], "200 6"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
	if c := s.BootStats(); c.Requests != 6 || c.Files != 5 || c.Scripts != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestWhatIsNoRequestIsRefusedAndCounted(t *testing.T) {
	addr, s := serveFirmware(t)
	tests := map[string]struct {
		says, status string
		count        func(Stats) int64
	}{
		"oversized headers":     {"GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "431", func(c Stats) int64 { return c.HeadersTooLarge }},
		"an oversized path":     {"GET /boot/" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431", func(c Stats) int64 { return c.HeadersTooLarge }},
		"ten thousand headers":  {"GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", "431", func(c Stats) int64 { return c.HeadersTooLarge }},
		"TLS":                   {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400", func(c Stats) int64 { return c.BadRequests }},
		"a version of its own":  {"GET /boot/vmlinuz HTTP/9.9\r\nHost: x\r\n\r\n", "505", func(c Stats) int64 { return c.BadRequests }},
		"HTTP/1.1 without host": {"GET /boot/vmlinuz HTTP/1.1\r\n\r\n", "400", func(c Stats) int64 { return c.BadRequests }},
		"two lengths":           {"GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400", func(c Stats) int64 { return c.BadRequests }},
		"another method":        {"BREW /boot/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n", "405", func(c Stats) int64 { return c.BadMethods }},
		"nothing there":         {"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404", func(c Stats) int64 { return c.NotFound }},
		"a made-up link":        {"GET /boot/t/x/y HTTP/1.1\r\nHost: x\r\n\r\n", "410", func(c Stats) int64 { return c.LinksRefused }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := tt.count(s.BootStats())
			f := newFirmware(t, addr, "")
			go func() { _, _ = io.WriteString(f.conn, tt.says) }() // it may not be read to its end
			line, err := f.in.ReadString('\n')
			if err != nil || !strings.Contains(line, " "+tt.status+" ") {
				t.Fatalf("answer %q, %v; want %s", line, err, tt.status)
			}
			if got := tt.count(s.BootStats()); got != before+1 {
				t.Errorf("counted %d, want %d", got, before+1)
			}
		})
	}
}

// quick asks for a file as another machine does, and returns how long it took.
func quick(t *testing.T, addr string) time.Duration {
	t.Helper()
	begin := time.Now()
	f := newFirmware(t, addr, "127.0.0.77")
	if status, _, body := f.ask("GET /boot/vmlinuz HTTP/1.1\nHost: x\nConnection: close"); !strings.Contains(status, "200") || len(body) != 20 {
		t.Errorf("another machine got %q, %d bytes", status, len(body))
	}
	return time.Since(begin)
}

func TestOthersAreServedWithinASecond(t *testing.T) {
	big := func(o *Options) {
		if err := os.Truncate(filepath.Join(o.BootDir, "initrd.img"), 60<<20); err != nil {
			t.Fatal(err)
		}
	}
	oversized := "GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n"
	tests := map[string]struct {
		says  string
		count func(Stats) int64
	}{
		"300 slow headers":      {"GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ", func(c Stats) int64 { return c.Conns }},
		"300 slow readers":      {"GET /boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n", func(c Stats) int64 { return c.Conns }},
		"300 that say no word":  {"", func(c Stats) int64 { return c.Conns }},
		"300 oversized headers": {oversized, func(c Stats) int64 { return c.HeadersTooLarge }},
		"300 that speak TLS":    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", func(c Stats) int64 { return c.BadRequests }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, s := serveFirmware(t, big)
			for i := range 300 {
				conn := dial(t, addr, fmt.Sprintf("127.0.1.%d", 1+i%100))
				_, _ = io.WriteString(conn, tt.says)
			}
			for range 5 {
				if took := quick(t, addr); took > time.Second {
					t.Errorf("another machine waited %s", took)
				}
			}
			for i := 0; tt.count(s.BootStats()) < 300; i++ {
				if <-time.After(10 * time.Millisecond); i > 500 {
					t.Fatalf("counted %+v, want 300 of them", s.BootStats())
				}
			}
		})
	}
}

func TestConnectionsAreCappedAndCounted(t *testing.T) {
	addr, s := serveFirmware(t)
	for range bootsPerAddr + 10 {
		dial(t, addr, "127.0.0.5")
	}
	quick(t, addr)
	if c := s.BootStats(); c.ConnsGaveWay != 10 {
		t.Errorf("%d connections of an address gave way to others of it, want 10: %+v", c.ConnsGaveWay, c)
	}
}

// The deadlines are long. The clock of synctest runs through them; its
// machines are on pipes.
func TestMachinesThatStandStillAreLetGo(t *testing.T) {
	tests := map[string]struct {
		says  string
		after time.Duration
		want  Stats
	}{
		"in the middle of a header": {"GET /boot/vmlinuz HTTP/1.1\r\nX-Slow: ", headerTime, Stats{SlowHeaders: 1}},
		"before the first word":     {"", headerTime, Stats{IdleClosed: 1}},
		"between two requests":      {"GET /boot/nothing HTTP/1.1\r\nHost: x\r\n\r\n", idleTime, Stats{Requests: 1, NotFound: 1, IdleClosed: 1}},
		"between two scripts":       {"GET /boot/ipxe? HTTP/1.1\r\nHost: x\r\n\r\n", idleTime, Stats{Requests: 1, Scripts: 1, IdleClosed: 1}},
		"in the middle of a script": {"GET /boot/ipxe? HTTP/1.1\r\nHost: x\r\n\r\n", bootfile.StallTime, Stats{Requests: 1, Scripts: 1, StalledReaders: 1}},
		"in the middle of a file":   {"GET /boot/initrd.img HTTP/1.1\r\nHost: x\r\n\r\n", bootfile.StallTime, Stats{Requests: 1, Files: 1, StalledReaders: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newTestServer(t)
				ours, theirs := net.Pipe()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx, Listeners{Boot: []net.Listener{newPipeListener(ours)}}) }()
				begin := time.Now()
				_, _ = io.WriteString(theirs, tt.says)
				if tt.want.StalledReaders == 0 {
					_, _ = io.Copy(io.Discard, theirs) // until the server closes
				} else {
					_, _ = io.ReadFull(theirs, make([]byte, 100))
					time.Sleep(bootfile.StallTime + time.Second) //nolint:forbidigo // fake time: synctest
				}
				synctest.Wait()
				if took := time.Since(begin); took < tt.after || took > tt.after+2*time.Second {
					t.Errorf("let go after %s, want %s", took, tt.after)
				}
				got := s.BootStats()
				got.Conns = 0 // net/http may still wait for the machine to hang up
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("counted (-want +got):\n%s", diff)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run = %v", err)
				}
				_ = theirs.Close()
			})
		})
	}
}

// A pipeListener accepts one connection.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener(conn net.Conn) *pipeListener {
	l := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conns <- conn
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
