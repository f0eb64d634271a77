package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serveAt is serve on an address of one's choice.
func serveAt(t *testing.T, network, at string, o Options) (*Server, netip.AddrPort) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s, network, at)
}

// run has a server serve until the end of the test.
func run(t *testing.T, s *Server, network, at string) netip.AddrPort {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// A reader is a client as real ones are: it takes its first answer from any
// port and then from that one only, tells of gaps, and asks again.
type reader struct {
	conn    *net.UDPConn
	to      netip.AddrPort
	server  netip.AddrPort // where the data comes from
	options string         // granted
	block   int
	window  int
	drop    func() bool // loses a packet, in either direction; nil: none
	retry   time.Duration
}

func newReader(tb testing.TB, from string, to netip.AddrPort) *reader {
	tb.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadBuffer(1 << 20)
	return &reader{conn: conn, to: to, retry: 300 * time.Millisecond}
}

func (r *reader) send(b []byte) {
	to := r.to
	if r.server.IsValid() {
		to = r.server
	}
	if r.drop == nil || !r.drop() {
		_, _ = r.conn.WriteToUDPAddrPort(b, to)
	}
}

// read loads a file; options are "name value name value".
func (r *reader) read(name, options string) ([]byte, error) {
	request := "\x00\x01" + name + "\x00octet\x00"
	if options != "" {
		request += strings.ReplaceAll(options, " ", "\x00") + "\x00"
	}
	last := []byte(request)
	r.server, r.block, r.window = netip.AddrPort{}, 512, 1
	r.send(last)
	var got []byte
	have, inRow, gap := uint16(0), 0, false
	buf := make([]byte, 2048)
	ack := func() {
		last = []byte{0, 4, byte(have >> 8), byte(have)}
		inRow = 0
		r.send(last)
	}
	for silent := 0; silent < 60; {
		_ = r.conn.SetReadDeadline(time.Now().Add(r.retry))
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			silent++
			r.send(last)
			continue
		}
		if r.drop != nil && r.drop() || n < 4 || r.server.IsValid() && r.server != from {
			continue
		}
		r.server = from
		switch body := buf[4:n]; binary.BigEndian.Uint16(buf) {
		case opERROR:
			return nil, fmt.Errorf("error %d %q", buf[3], body)
		case opOACK:
			r.grant(string(buf[2:n]))
			if have == 0 {
				ack()
			}
		case opDATA:
			ahead := int16(binary.BigEndian.Uint16(buf[2:]) - have)
			switch {
			case ahead == 1:
				got, have, gap, silent = append(got, body...), have+1, false, 0
				if inRow++; inRow == r.window || len(body) < r.block {
					ack()
				}
				if len(body) < r.block {
					return got, nil
				}
			case ahead == 0, ahead > 1 && !gap:
				gap = ahead > 1
				ack()
			}
		}
	}
	return got, errors.New("silence")
}

func (r *reader) grant(options string) {
	r.options = strings.TrimSuffix(strings.ReplaceAll(options, "\x00", " "), " ")
	fields := strings.Fields(r.options)
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "blksize":
			_, _ = fmt.Sscan(fields[i+1], &r.block)
		case "windowsize":
			_, _ = fmt.Sscan(fields[i+1], &r.window)
		}
	}
}

func TestAnswersLeaveFromTheAddressThatWasAsked(t *testing.T) {
	want := noise(10_000)
	files := map[string][]byte{"f": want}
	tests := map[string]struct {
		network, listen string
		from, ask       string // without ports
		options         string // granted of "blksize 8192 windowsize 8"
	}{
		"one of many":               {"udp4", "0.0.0.0:0", "127.0.0.1", "127.0.0.3", "blksize 1468 windowsize 8"},
		"its only one":              {"udp4", "127.0.0.2:0", "127.0.0.1", "127.0.0.2", "blksize 1468 windowsize 8"},
		"IPv6":                      {"udp6", "[::1]:0", "[::1]", "::1", "blksize 1428 windowsize 8"},
		"IPv6, one of many":         {"udp6", "[::]:0", "[::1]", "::1", "blksize 1428 windowsize 8"},
		"IPv4 by a socket for both": {"udp", "[::]:0", "127.0.0.1", "127.0.0.3", "blksize 1468 windowsize 8"},
	}
	for name, tt := range tests {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, single port %t", name, single), func(t *testing.T) {
				done := make(chan Transfer, 1)
				_, at := serveAt(t, tt.network, tt.listen, Options{Open: holding(files), SinglePort: single, Done: func(tr Transfer) { done <- tr }})
				asked := netip.AddrPortFrom(netip.MustParseAddr(tt.ask), at.Port())
				r := newReader(t, tt.from+":0", asked)
				got, err := r.read("f", "blksize 8192 windowsize 8")
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				if r.server.Addr().Unmap() != asked.Addr() || (r.server.Port() == at.Port()) != single {
					t.Errorf("data came from %s, asked was %s, single port %t", r.server, asked, single)
				}
				want := tt.options
				if single {
					want = strings.Replace(want, "windowsize 8", "windowsize 1", 1)
				}
				if r.options != want {
					t.Errorf("granted %q, want %q", r.options, want)
				}
				tr := <-done
				if tr.Local.Addr() != asked.Addr() || tr.Local.Port() != r.server.Port() || tr.Client.Addr().String() != strings.Trim(tt.from, "[]") || tr.Proved == single {
					t.Errorf("reported from %s to %s, proved %t", tr.Local, tr.Client, tr.Proved)
				}
			})
		}
	}
}

func TestMoreThan65535BlocksComeThrough(t *testing.T) {
	want := noise(512*66_000 + 7)
	big := func(context.Context, string, netip.AddrPort) (io.ReadCloser, int64, error) {
		return tempFile(t, want), int64(len(want)), nil
	}
	for _, memory := range []int64{64 << 20, 128 << 20} { // read in place, and from memory
		_, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: big, MaxMemory: memory})
		got, err := newReader(t, "127.0.0.1:0", at).read("f", "windowsize 64")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("memory %d: got %d bytes, %v, want %d", memory, len(got), err, len(want))
		}
	}
}

func TestLossesInBothDirectionsAreMadeGood(t *testing.T) {
	want := noise(256 << 10)
	for name, options := range map[string]string{
		"lock-step": "blksize 1428", "window 4": "blksize 1468 windowsize 4", "window 16": "blksize 1468 windowsize 16", "window 64": "blksize 512 windowsize 64",
	} {
		for _, single := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, single port %t", name, single), func(t *testing.T) {
				t.Parallel()
				_, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": want}), SinglePort: single})
				r := newReader(t, "127.0.0.1:0", at)
				chance := rand.New(rand.NewPCG(7440, 1350)) //nolint:gosec // chance that repeats
				r.drop = func() bool { return chance.Float64() < 0.03 }
				started := time.Now()
				got, err := r.read("f", options)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				if took := time.Since(started); took > 20*time.Second {
					t.Errorf("took %s", took)
				}
			})
		}
	}
}

// Whatever one client sends, others are served meanwhile and afterwards.
func TestGarbageHurtsNobody(t *testing.T) {
	want := noise(100_000)
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single port %t", single), func(t *testing.T) {
			s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": want, "snponly.efi": want}), SinglePort: single})
			chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // chance that repeats
			seeds := clientPackets(t, captures(t)...)
			bad := newReader(t, "127.0.0.9:0", at)
			for i := range 5000 {
				p := append([]byte(nil), seeds[chance.IntN(len(seeds))]...)
				for range 1 + chance.IntN(6) {
					p[chance.IntN(len(p))] = byte(chance.Uint32())
				}
				if chance.IntN(4) == 0 {
					p = p[:chance.IntN(len(p))]
				}
				bad.send(p)
				if i%500 == 0 {
					got, err := newReader(t, "127.0.0.1:0", at).read("f", "blksize 1468 windowsize 4")
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("after %d: got %d bytes, %v", i, len(got), err)
					}
				}
			}
			waitFor(t, func() bool {
				st := s.Stats()
				return st.Malformed > 0 && st.Done == 10 && st.Stray > 0
			}, func() string { return fmt.Sprintf("%+v", s.Stats()) })
		})
	}
}

// soon is less than what we wait for those who are not heard, and enough for who
// is not kept waiting on a machine that has far too much to do.
const soon = unheardFor / 2

func TestFiveThousandHalfOpenTransfersDoNotKeepAGoodClientWaiting(t *testing.T) {
	const halfOpen, ahead = 5000, 500
	want := noise(100_000)
	s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": want})})
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := newReader(t, "127.0.0.1:0", at).read("f", ""); err != nil { // it is up
		t.Fatal(err)
	}
	for i := range halfOpen {
		from := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		control := leaveFrom(from, false)
		if _, _, err := conn.WriteMsgUDPAddrPort([]byte("\x00\x01f\x00octet\x00tsize\x000\x00blksize\x001468\x00windowsize\x0064\x00"), control, at); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 { // no more at once than its socket has room for
			waitFor(t, func() bool { return s.Stats().Running+s.Stats().Failed > int64(i-ahead) }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
		}
	}
	waitFor(t, func() bool { return s.Stats().Running+s.Stats().Failed > halfOpen*9/10 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	if st := s.Stats(); st.Running < halfOpen/2 { // the rest was given up on a machine that took longer to ask than we wait
		t.Fatalf("too few are half open: %+v", st)
	}
	var slowest time.Duration
	for range 5 {
		started := time.Now()
		got, err := newReader(t, "127.0.0.1:0", at).read("f", "blksize 1468 windowsize 4")
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		slowest = max(slowest, time.Since(started))
	}
	t.Logf("the slowest transfer took %s", slowest)
	if slowest > soon {
		t.Errorf("the good client waited %s", slowest)
	}
}

func TestWhenAllPlacesAreTakenTheOldestHalfOpenOneGivesWay(t *testing.T) {
	s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": noise(5000)}), MaxTransfers: 3})
	for i := range 3 {
		newReader(t, fmt.Sprintf("127.0.0.%d:0", 11+i), at).send([]byte("\x00\x01f\x00octet\x00"))
	}
	waitFor(t, func() bool { return s.Stats().Running == 3 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	if _, err := newReader(t, "127.0.0.1:0", at).read("f", ""); err != nil {
		t.Fatal(err)
	}
	// The first second's requests are capped, and then one transfer is given up.
	waitFor(t, func() bool {
		st := s.Stats()
		return st.Capped > 0 && st.Failed == 1 && st.Running == 2 && st.Done == 1
	}, func() string { return fmt.Sprintf("%+v", s.Stats()) })
}

func TestASourceThatAsksTooOftenIsHeardLess(t *testing.T) {
	s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(nil), MaxPerSecond: 10, MaxPerSource: 1000})
	for range 100 {
		newReader(t, "127.0.0.1:0", at).send([]byte("\x00\x01f\x00octet\x00"))
	}
	waitFor(t, func() bool { return s.Stats().NotFound+s.Stats().Limited == 100 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	if st := s.Stats(); st.NotFound < 20 || st.NotFound > 30 {
		t.Errorf("%d of 100 requests were answered, want 20 and what a moment allows", st.NotFound)
	}
}

func TestARequestThatComesTwiceIsOneTransfer(t *testing.T) {
	done := make(chan Transfer, 4)
	s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": noise(700), "g": noise(600)}), Done: func(tr Transfer) { done <- tr }})
	r := newReader(t, "127.0.0.1:0", at)
	for range 3 {
		r.send([]byte("\x00\x01f\x00octet\x00"))
	}
	waitFor(t, func() bool { return s.Stats().Repeated == 2 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	if b, _ := receive(t, r.conn); len(b) != 516 {
		t.Errorf("got %d bytes, want the first block", len(b))
	}
	// Another request from the same port is another transfer.
	got, err := r.read("g", "tsize 0")
	if err != nil || !bytes.Equal(got, noise(600)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if tr := <-done; tr.Name != "f" || tr.Err == nil {
		t.Errorf("first %+v, want f broken off", tr)
	}
	if tr := <-done; tr.Name != "g" || tr.Err != nil {
		t.Errorf("then %+v, want g done", tr)
	}
}

func TestNetasciiIsServedFromManyPortsOnly(t *testing.T) {
	for _, single := range []bool{false, true} {
		_, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": []byte("a\nb\n")}), SinglePort: single})
		r := newReader(t, "127.0.0.1:0", at)
		r.send([]byte("\x00\x01f\x00netascii\x00"))
		b, from := receive(t, r.conn)
		if _, err := r.conn.WriteTo([]byte{0, opACK, 0, 1}, from); err != nil {
			t.Fatal(err)
		}
		if got, want := string(b), map[bool]string{false: "\x00\x03\x00\x01a\r\nb\r\n", true: "\x00\x05\x00\x00mode octet only\x00"}[single]; got != want {
			t.Errorf("single port %t: got %q, want %q", single, got, want)
		}
	}
}

func TestATransferThatTheServerEndsIsSaidToTheClient(t *testing.T) {
	s, err := New(Options{Open: holding(map[string][]byte{"f": noise(5000)})})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }()
	r := newReader(t, "127.0.0.1:0", conn.LocalAddr().(*net.UDPAddr).AddrPort())
	r.send([]byte("\x00\x01f\x00octet\x00"))
	if b, _ := receive(t, r.conn); binary.BigEndian.Uint16(b) != opDATA {
		t.Errorf("got %q, want data", b)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if b, _ := receive(t, r.conn); string(b) != "\x00\x05\x00\x00server is stopping\x00" {
		t.Errorf("got %q, want an error", b)
	}
	if st := s.Stats(); st.Running != 0 || st.Failed != 1 {
		t.Errorf("Stats = %+v", st)
	}
}

func TestAnACKStormIsNotAnsweredAndKeepsNobodyWaiting(t *testing.T) {
	want := noise(20_000)
	for _, single := range []bool{false, true} {
		s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": want}), SinglePort: single})
		held := newReader(t, "127.0.0.1:0", at) // shows where data comes from
		held.send([]byte("\x00\x01f\x00octet\x00"))
		_, from := receive(t, held.conn)
		stranger := newReader(t, "127.0.0.5:0", from.(*net.UDPAddr).AddrPort())
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					stranger.send([]byte{0, opACK, byte(i >> 8), byte(i)})
				}
			}
		}()
		for range 3 {
			started := time.Now()
			if got, err := newReader(t, "127.0.0.1:0", at).read("f", "blksize 1468 windowsize 4"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if took := time.Since(started); took > soon {
				t.Errorf("the good client waited %s", took)
			}
		}
		close(stop)
		<-stopped
		if st := s.Stats(); st.Stray == 0 {
			t.Errorf("Stats = %+v, want stray packets", st)
		}
		_ = stranger.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := stranger.conn.Read(make([]byte, 100)); err == nil {
			t.Errorf("the stranger got %d bytes", n)
		}
	}
}

// Requests and ERRORs come to different ports of ours, and a busy server may
// read the later one first.
func TestALateErrorEndsNotTheTransferThatCameAfter(t *testing.T) {
	for name, single := range map[string]bool{"each at a port of its own": false, "at one port": true} {
		t.Run(name, func(t *testing.T) { lateError(t, single) })
	}
}

func lateError(t *testing.T, single bool) {
	t.Helper()
	want := noise(600)
	s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": want}), SinglePort: single})
	r := newReader(t, "127.0.0.1:0", at)
	r.send([]byte("\x00\x01f\x00octet\x00tsize\x000\x00"))
	_, before := receive(t, r.conn)
	if before == nil {
		t.Fatal("no answer to the question for its size")
	}
	r.send([]byte("\x00\x01f\x00octet\x00blksize\x001024\x00"))
	b, from := receive(t, r.conn)
	for !bytes.Contains(b, []byte("blksize")) {
		b, from = receive(t, r.conn)
	}
	if (before.String() == from.String()) != single {
		t.Errorf("the transfers came from %s and %s", before, from)
	}
	late := []byte("\x00\x05\x00\x08enough\x00")
	if _, err := r.conn.WriteTo(late, before); err != nil {
		t.Fatal(err)
	}
	if single { // else nobody is there any more
		waitFor(t, func() bool { return s.Stats().Stray == 1 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	}
	if _, err := r.conn.WriteTo([]byte{0, opACK, 0, 0}, from); err != nil {
		t.Fatal(err)
	}
	for len(b) < 4 || b[1] != opDATA {
		b, _ = receive(t, r.conn)
	}
	if !bytes.Equal(b[4:], want) {
		t.Errorf("got %d bytes, want the file", len(b)-4)
	}
	// Now it is meant.
	if _, err := r.conn.WriteTo(late, from); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stats().Running == 0 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
}
