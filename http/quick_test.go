package http

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// What iPXE says (a capture of dhcp/testdata), with the path of its script.
const ipxeAsks = "GET /boot/ipxe?mac=52-54-00-00-00-01&uuid=9707b47b-0000-4000-8000-000000000001&platform=efi&arch=x86_64 HTTP/1.1\r\n" +
	"Connection: keep-alive\r\nUser-Agent: iPXE/1.21.1+git-20220113.fbbdc3926+dfsg-1\r\nHost: 10.77.0.1\r\n\r\n"

func TestTheDoorKnowsHowLoadersAsk(t *testing.T) {
	const ask = "GET /boot/ipxe?mac=x HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n"
	tests := map[string]struct {
		in    string
		query string
		size  int
	}{
		"iPXE":                            {ipxeAsks, ipxeAsks[15:strings.Index(ipxeAsks, " HTTP/")], len(ipxeAsks)},
		"little":                          {ask, "mac=x", len(ask)},
		"an IPv6 address":                 {"GET /boot/ipxe? HTTP/1.1\r\nhost: [fd77::1]:8080\r\n\r\n", "", 50},
		"two at once":                     {ask + ipxeAsks, "mac=x", len(ask)},
		"curl":                            {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n", "a", 76},
		"nothing":                         {"", "", 0},
		"a part":                          {ask[:len(ask)-1], "", 0},
		"a part of the first line":        {ask[:20], "", 0},
		"another path":                    {"GET /boot/ipxe/?a HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"no query":                        {"GET /boot/ipxe HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"HEAD":                            {"HEAD /boot/ipxe?a HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"HTTP/1.0":                        {"GET /boot/ipxe?a HTTP/1.0\r\nHost: x\r\n\r\n", "", 0},
		"a space in the query":            {"GET /boot/ipxe?a b HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"a fragment":                      {"GET /boot/ipxe?a#b HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"a byte that is none":             {"GET /boot/ipxe?a\xff HTTP/1.1\r\nHost: x\r\n\r\n", "", 0},
		"no host":                         {"GET /boot/ipxe?a HTTP/1.1\r\n\r\n", "", 0},
		"two hosts":                       {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "", 0},
		"a host that is none":             {"GET /boot/ipxe?a HTTP/1.1\r\nHost: a b\r\n\r\n", "", 0},
		"a body":                          {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", "", 0},
		"chunks":                          {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", 0},
		"an end":                          {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 0},
		"an unknown header":               {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n", "", 0},
		"a header that goes on":           {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nAccept: a\r\n b\r\n\r\n", "", 0},
		"a header with a space behind it": {"GET /boot/ipxe?a HTTP/1.1\r\nHost : x\r\n\r\n", "", 0},
		"a header without a colon":        {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nAccept\r\n\r\n", "", 0},
		"a long s in a name":              {"GET /boot/ipxe?a HTTP/1.1\r\nHo\u017ft: x\r\n\r\n", "", 0},
		"a long s in another name":        {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nU\u017fer-Agent: y\r\n\r\n", "", 0},
		"a Kelvin sign in a value":        {"GET /boot/ipxe?a HTTP/1.1\r\nHost: x\r\nConnection: \u212aeep-alive\r\n\r\n", "", 0},
		"bare line feeds":                 {"GET /boot/ipxe?a HTTP/1.1\nHost: x\n\n", "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			query, size, ok := parseQuick([]byte(tt.in))
			if ok != (tt.size > 0) || ok && (string(query) != tt.query || size != tt.size) {
				t.Errorf("parseQuick = %q, %d, %v; want %q, %d", query, size, ok, tt.query, tt.size)
			}
		})
	}
}

// FuzzQuick compares with what net/http reads: what is answered at the door
// must mean to it exactly the same.
func FuzzQuick(f *testing.F) {
	for _, head := range capturedRequests(f, captures(f)...) {
		f.Add([]byte(head + "\r\n\r\n"))
	}
	f.Add([]byte(ipxeAsks))
	f.Add([]byte("GET /boot/ipxe?mac=x%20&do=local HTTP/1.1\r\nhost: [fd77::1]:80\r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("GET /boot/ipxe?a HTTP/1.1\r\nHo\u017ft: x\r\nU\u017fer-Agent: y\r\n\r\n"))
	f.Add([]byte("GET /boot/ipxe? HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		query, size, ok := parseQuick(in)
		if !ok {
			return
		}
		from := bytes.NewReader(in)
		buffered := bufio.NewReader(from)
		req, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http does not read %q: %v", in[:size], err)
		}
		read := len(in) - from.Len() - buffered.Buffered()
		if req.Method != "GET" || req.URL.Path != pxe.PathScript || req.URL.RawQuery != string(query) || req.Close ||
			req.ContentLength != 0 || req.TransferEncoding != nil || !req.ProtoAtLeast(1, 1) || req.Host == "" || read != size {
			t.Errorf("net/http reads %+v, %d bytes; the door %q, %d bytes", req, read, query, size)
		}
	})
}

// Whoever answers, a machine gets the same.
func TestTheDoorAnswersAsNetHTTPDoes(t *testing.T) {
	now := func(o *Options) { o.Now = func() time.Time { return time.Unix(1_800_000_000, 0) } }
	addr, s := serveFirmware(t, now)
	for name, query := range map[string]string{
		"a script":         "mac=52-54-00-00-00-01&do=local",
		"nobody we know":   "",
		"a machine's name": "mac=52-54-00-00-00-77&platform=efi&arch=x86_64&do=menu",
	} {
		t.Run(name, func(t *testing.T) {
			ask := "GET /boot/ipxe?" + query + " HTTP/1.1\nHost: x"
			before := s.BootStats()
			status, headers, body := newFirmware(t, addr, "").ask(ask)
			between := s.BootStats()
			wantStatus, wantHeaders, wantBody := newFirmware(t, addr, "").ask(ask + "\nX-Odd: header")
			after := s.BootStats()
			for _, h := range []http.Header{headers, wantHeaders} {
				if h.Get("Date") == "" {
					t.Error("the answer has no date")
				}
				h.Del("Date")
			}
			if status != wantStatus || body != wantBody {
				t.Errorf("answer %q %q, want %q %q", status, body, wantStatus, wantBody)
			}
			if diff := cmp.Diff(wantHeaders, headers); diff != "" {
				t.Errorf("headers (-net/http +door):\n%s", diff)
			}
			if between.Requests-before.Requests != 1 || after.Scripts-between.Scripts != between.Scripts-before.Scripts {
				t.Errorf("counted %+v, then %+v, then %+v", before, between, after)
			}
		})
	}
}

func TestManyRequestsMayComeAtOnce(t *testing.T) {
	addr, s := serveFirmware(t)
	f := newFirmware(t, addr, "")
	const times = 100
	_, _ = io.WriteString(f.conn, strings.Repeat(ipxeAsks, times)) // as they are cut by what the door reads at a time
	scripts := 0
	for scripts < times {
		line, err := f.in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d scripts: %v", scripts, err)
		}
		if strings.Contains(line, "#!ipxe") {
			scripts++
		}
	}
	if _, _, body := f.ask("GET /boot/vmlinuz HTTP/1.1\nHost: x"); len(body) != 20 {
		t.Errorf("the kernel then has %d bytes, want 20", len(body))
	}
	if got := s.BootStats().Requests; got != times+1 {
		t.Errorf("%d requests counted, want %d", got, times+1)
	}
}

// A connection is counted once, on whatever side of the door it is, and not
// any more when it has ended: so many fit in, time and again.
func TestTheDoorLeavesNoConnectionBehind(t *testing.T) {
	l, s := serveFew(t, connsPerAddr, connsInAll)
	addr := l.Addr().String()
	for round := range 3 {
		var conns []net.Conn
		for i := range connsPerAddr {
			says := ipxeAsks
			if i%2 == 0 {
				says += "GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n"
			}
			conns = append(conns, heard(t, addr, says))
		}
		if got := s.BootStats().ConnsGaveWay; got != int64(round) {
			t.Errorf("%d of %d connections gave way", got, connsPerAddr)
		}
		conns = append(conns, heard(t, addr, ipxeAsks))
		if got := s.BootStats().ConnsGaveWay; got != int64(round)+1 {
			t.Errorf("one more than %d connections was let in, and %d gave way", connsPerAddr, got)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		for i := 0; s.BootStats().Conns > 0; i++ {
			if <-time.After(10 * time.Millisecond); i > 500 {
				t.Fatalf("%d connections are left", s.BootStats().Conns)
			}
		}
	}
}

// heard connects and says something until it is answered.
func heard(t *testing.T, addr, says string) net.Conn {
	t.Helper()
	conn := dial(t, addr, "127.0.0.9")
	_, _ = io.WriteString(conn, says)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("no connection is let in any more: %v", err)
	}
	return conn
}

// Whoever waits at the door when the server stops is let go at once.
func TestTheDoorClosesAtOnce(t *testing.T) {
	s, _ := newTestServer(t)
	l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, Listeners{Boot: []net.Listener{l}}) }()
	f := newFirmware(t, l.Addr().String(), "")
	f.ask("GET /boot/ipxe?do=local HTTP/1.1\nHost: x")
	dial(t, l.Addr().String(), "") // and says nothing
	begin := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(begin); took > drainTime/2 {
		t.Errorf("it took %s", took)
	}
	if f.open() {
		t.Error("the connection was kept")
	}
}

// A brokenRack is an engine that falls over when it is asked for a machine.
type brokenRack struct{ *rackEngine }

func (brokenRack) NodeByMAC(fleet.MAC) (fleet.Node, bool) { panic("the rack is on fire") }

func TestAPanicAtTheDoorIsA500AndTheServerGoesOn(t *testing.T) {
	addr, s := serveFirmware(t, func(o *Options) { o.Engine = brokenRack{newRackEngine()} })
	f := newFirmware(t, addr, "")
	if status, _, body := f.ask("GET /boot/ipxe?mac=52-54-00-00-00-01 HTTP/1.1\nHost: x"); status != "HTTP/1.1 500 Internal Server Error" || strings.Contains(body, "fire") || f.open() {
		t.Errorf("answer = %q %q, want a bare 500 and the end", status, body)
	}
	if c := s.BootStats(); c.Panics != 1 {
		t.Errorf("%d panics counted, want 1", c.Panics)
	}
	quick(t, addr)
}

func BenchmarkQuickScript(b *testing.B) {
	s, _ := newTestServer(b)
	at := boot{s}
	ask := scriptAsk{addr: netip.MustParseAddr("127.0.0.1"), local: netip.MustParseAddr("127.0.0.1"), query: ipxeAsks[15:strings.Index(ipxeAsks, " HTTP/")] + "&do=local"}
	dst := make([]byte, 0, 4096)
	if got := at.quickScript(dst, ask); !bytes.HasPrefix(got, []byte("HTTP/1.1 200")) {
		b.Fatalf("%.100s", got)
	}
	b.ReportAllocs()
	for b.Loop() {
		at.quickScript(dst, ask)
	}
}

// What iPXE on real firmware asked for its script with, word for word, is
// answered at the door.
func TestTheDoorKnowsHowRealLoadersAsk(t *testing.T) {
	four, err := filepath.Glob("../dhcp/testdata/rack-*.pcap")
	if err != nil || len(four) == 0 {
		t.Fatalf("captures: %q, %v", four, err)
	}
	seen := 0
	for _, name := range four {
		for _, head := range capturedRequests(t, name) {
			if !strings.HasPrefix(head, "GET "+pxe.PathScript+"?") {
				continue
			}
			seen++
			if _, size, ok := parseQuick([]byte(head + "\r\n\r\n")); !ok || size != len(head)+4 {
				t.Errorf("%s: %q goes to net/http", name, head)
			}
		}
	}
	if seen < 3 {
		t.Errorf("%d requests for scripts in the captures, want 3", seen)
	}
}
