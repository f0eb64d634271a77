package tftp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A spoofer sends as if it were its victim, and counts what the victim gets.
// It makes no use of it: it does not see it.
type spoofer struct {
	conn   *net.UDPConn
	victim netip.Addr
	in     int // bytes that it sent
	got    chan drew
}

// drew is a packet that the victim got.
type drew struct {
	size      int
	op, block uint16
}

func newSpoofer(t *testing.T, victim string) *spoofer {
	t.Helper()
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadBuffer(8 << 20)
	s := &spoofer{conn: conn, victim: netip.MustParseAddr(victim), got: make(chan drew, 1<<16)}
	go func() {
		defer close(s.got)
		b := make([]byte, 2048)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if n < 4 {
				t.Errorf("the victim got a packet of %d bytes", n)
				return
			}
			s.got <- drew{n, binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
		}
	}()
	return s
}

func (s *spoofer) send(t *testing.T, packet string, to netip.AddrPort) {
	t.Helper()
	s.in += len(packet)
	if _, _, err := s.conn.WriteMsgUDPAddrPort([]byte(packet), leaveFrom(s.victim, false), to); err != nil {
		t.Fatal(err)
	}
}

// drawn is how many bytes, and packets, the victim got until it heard nothing
// for so long.
func (s *spoofer) drawn(quiet time.Duration) (size, packets int) {
	for {
		select {
		case d := <-s.got:
			size, packets = size+d.size, packets+1
		case <-time.After(quiet):
			return size, packets
		}
	}
}

// untilBlock is how many bytes the victim got with a block of data and before
// it. What it got again is counted apart: that depends on how fast we are.
func (s *spoofer) untilBlock(t *testing.T, block uint16) (size, again int) {
	t.Helper()
	late := time.After(silentFor)
	for {
		select {
		case d := <-s.got:
			if d.op == opDATA && d.block == block {
				return size + d.size, again
			}
			again += d.size
		case <-late:
			t.Fatalf("block %d never came", block)
		}
	}
}

const spoofedRequest = "\x00\x01f\x00octet\x00blksize\x001468\x00windowsize\x0064\x00"

// Who sends from an address that is not its own sees no answer. It may have
// asked before from its own, and seen where the data came from then. Here it
// knows besides when to send, as if it saw: it never acknowledges what was not
// sent yet.
func TestBlindACKsDrawLittle(t *testing.T) {
	tests := map[string]struct {
		single bool
		own    int     // lines of one transfer each; the honest one has the first
		whole  bool    // it draws all of the file
		most   float64 // and twice as much where packets are sent again
	}{
		"many ports": {false, mostOwn, false, 6},
		// The lines that others have, too, are known: of those ports one is right.
		"shared ports": {false, 1, true, 6},
		// Port 69 is no secret, so each ACK draws a block of 1468 bytes.
		"single port": {true, mostOwn, true, 370},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			done := make(chan Transfer, 1)
			server, at := serveFewLines(t, tt.own, mostShared, Options{
				Open: holding(map[string][]byte{"f": noise(1 << 18)}), SinglePort: tt.single, MaxPerSource: 10_000, MaxPerSecond: 100_000,
				Done: func(tr Transfer) {
					if tr.Client.Addr() == victim {
						done <- tr
					}
				},
			})
			s := newSpoofer(t, victim.String())
			size, again := s.blindACKs(t, at, s.ports(t, at, tt.own == 1), tt.whole)
			if stray := server.Stats().Stray; (stray > 0) == tt.single {
				t.Errorf("%d ACKs came where they do not belong", stray)
			}
			factor := float64(size) / float64(s.in)
			t.Logf("%d bytes drew %d, %.1f for one, and %d again", s.in, size, factor, again)
			if both := float64(size+again) / float64(s.in); factor > tt.most || both > 2*tt.most {
				t.Errorf("%.1f bytes for one, %.1f with what was sent again; want at most %g and %g", factor, both, tt.most, 2*tt.most)
			}
			if !tt.whole {
				if size+again >= 1472 {
					t.Errorf("%d bytes drew %d: that is data", s.in, size+again)
				}
				return
			}
			if tr := <-done; size < 1<<18 || tr.Proved || tr.Window != 1 || tr.Err != nil {
				t.Errorf("%d bytes, proved %t, with a window of %d, %v; want the whole, and all of it in lock-step is no proof", size, tr.Proved, tr.Window, tr.Err)
			}
		})
	}
}

var victim = netip.MustParseAddr("127.9.9.9")

// ports are where an ACK of the victim may belong, as far as anybody can see
// who asks in his own name.
func (s *spoofer) ports(t *testing.T, at netip.AddrPort, shared bool) []netip.AddrPort {
	t.Helper()
	honest := newReader(t, "127.0.0.1:0", at)
	honest.send([]byte(spoofedRequest)) // and says no more: its transfer's port stays open
	_, seen := receive(t, honest.conn)
	own := seen.(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // of a UDP socket
	if !shared {
		return []netip.AddrPort{own}
	}
	known := sharedPorts(t, at)
	if known[own] {
		t.Error("what one transfer has for its own, others have too")
	}
	return slices.Collect(maps.Keys(known))
}

// blindACKs asks for a file in the name of the victim, and acknowledges all of
// it, to each port that it knows: in lock-step as far as that brings anything,
// else as if the answers came 64 at once.
func (s *spoofer) blindACKs(t *testing.T, at netip.AddrPort, known []netip.AddrPort, whole bool) (size, again int) {
	t.Helper()
	const blocks = 1<<18/1468 + 1
	s.send(t, spoofedRequest, at)
	answer := <-s.got
	size = answer.size
	for block := 0; block <= blocks; block++ {
		if !whole && block%64 > 0 {
			continue
		}
		for _, port := range known {
			s.send(t, string([]byte{0, opACK, byte(block >> 8), byte(block)}), port)
		}
		if whole && block < blocks {
			more, twice := s.untilBlock(t, uint16(block+1)) //nolint:gosec // they are few
			size, again = size+more, again+twice
		}
	}
	twice, _ := s.drawn(50 * time.Millisecond)
	return size, again + twice
}

// sharedPorts finds out over which ports transfers go that have none of their
// own, by asking until each has been seen.
func sharedPorts(t *testing.T, at netip.AddrPort) map[netip.AddrPort]bool {
	t.Helper()
	ports := map[netip.AddrPort]bool{}
	for asked, last := 0, 0; asked-last < 700; asked++ {
		r := newReader(t, "127.0.0.1:0", at)
		r.send([]byte("\x00\x01f\x00octet\x00"))
		_, from := receive(t, r.conn)
		port := from.(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // of a UDP socket
		if !ports[port] {
			ports[port], last = true, asked
		}
	}
	return ports
}

// Who was never heard gets few packets, whatever it asked for.
func TestWhoIsNeverHeardGetsFewPackets(t *testing.T) {
	tests := map[string]struct {
		options bool
		timeout time.Duration
		most    int64
	}{
		"asked for nothing":               {false, 0, 2},
		"asked for options":               {true, 0, 6},
		"asked to be sent to very often":  {true, 100 * time.Millisecond, 6},
		"asked to be sent to each second": {true, time.Second, 6},
		"asked for the longest wait":      {true, mostTimeout, 6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSession(1000, 64, tt.options, tt.timeout, at(0))
			s.window = map[bool]int64{true: 64, false: 1}[tt.options]
			s.flight(at(0))
			for range 1000 {
				again, err := s.expired(s.due)
				if err != nil {
					break
				}
				if again {
					s.flight(s.due)
				}
			}
			if s.packets > tt.most || s.packets < 1 {
				t.Errorf("%d packets, want at most %d", s.packets, tt.most)
			}
			if took := s.due.Sub(s.began); took > unheardFor {
				t.Errorf("it was held for %s, want %s at most", took, unheardFor)
			}
		})
	}
}

// The same, of the real server: bytes on the wire, not packets.
func TestARequestThatNobodyStandsByDrawsLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	tests := map[string]struct {
		request string
		most    float64 // bytes for each byte
	}{
		"with options":       {spoofedRequest, 6},
		"sent to very often": {spoofedRequest + "utimeout\x00100000\x00", 6},
		"without options":    {"\x00\x01f\x00octet\x00", 104},    // two blocks of 516
		"in netascii":        {"\x00\x01f\x00netascii\x00", 122}, // three, and an error
		"of what is not":     {"\x00\x01g\x00octet\x00", 2},
		"to write":           {"\x00\x02g\x00octet\x00", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": noise(1 << 20)})})
			s := newSpoofer(t, "127.9.9.8")
			s.send(t, tt.request, at)
			size, packets := s.drawn(5 * time.Second)
			factor := float64(size) / float64(s.in)
			t.Logf("%d bytes drew %d in %d packets: %.1f for one", s.in, size, packets, factor)
			if factor > tt.most || packets > 6 {
				t.Errorf("%d bytes drew %d in %d packets: %.1f for one, want at most %g", s.in, size, packets, factor, tt.most)
			}
		})
	}
}

// Whoever is not served hears nothing, and the others all the same.
func TestWhoIsNotServedHearsNothing(t *testing.T) {
	stranger := netip.MustParseAddr("127.9.9.7")
	for _, single := range []bool{false, true} {
		server, at := serveAt(t, "udp4", "127.0.0.1:0", Options{
			Open: holding(map[string][]byte{"f": noise(1000)}), SinglePort: single,
			Serves: func(a netip.Addr) bool { return a != stranger },
		})
		s := newSpoofer(t, stranger.String())
		for _, request := range []string{spoofedRequest, "\x00\x01missing\x00octet\x00", "\x00\x02f\x00octet\x00", "\x00\x01f\x00netascii\x00"} {
			s.send(t, request, at)
		}
		if _, err := newReader(t, "127.0.0.1:0", at).read("f", ""); err != nil {
			t.Error(err)
		}
		if size, _ := s.drawn(50 * time.Millisecond); size != 0 || server.Stats().Strangers != 4 {
			t.Errorf("single port %t: the stranger drew %d bytes, %+v", single, size, server.Stats())
		}
	}
}

// Where one client takes many lines, or all have as many as may be, transfers
// share some: in lock-step, and with no proof.
func TestTransfersShareLinesWhereThereAreFew(t *testing.T) {
	want := noise(100_000)
	done := make(chan Transfer, 20)
	server, at := serveFewLines(t, 1, 2, Options{Done: func(tr Transfer) { done <- tr }, Open: holding(map[string][]byte{"f": want}), MaxPerSource: 100})
	held := newReader(t, "127.0.0.1:0", at)
	held.send([]byte("\x00\x01f\x00octet\x00"))
	_, from := receive(t, held.conn)
	ports := map[netip.AddrPort]bool{}
	for range 8 {
		other := newReader(t, "127.0.0.1:0", at)
		other.send([]byte("\x00\x01f\x00octet\x00"))
		_, from := receive(t, other.conn)
		ports[from.(*net.UDPAddr).AddrPort()] = true
	}
	if n := server.lines.plugged(); n != 3 || len(ports) > 2 || ports[from.(*net.UDPAddr).AddrPort()] { //nolint:forcetypeassert // of a UDP socket
		t.Errorf("%d lines are open, and data came from %d ports, want 3 and 2 others", n, len(ports))
	}
	last := newReader(t, "127.0.0.1:0", at)
	if got, err := last.read("f", "blksize 1468 windowsize 4"); err != nil || !bytes.Equal(got, want) || last.options != "blksize 1468 windowsize 1" {
		t.Errorf("over a shared line: got %d bytes, granted %q, %v", len(got), last.options, err)
	}
	if tr, st := <-done, server.Stats(); tr.Proved || tr.Err != nil || st.Shared != 9 {
		t.Errorf("over a shared line: proved %t, %v, %d counted; want no proof, and 9", tr.Proved, tr.Err, st.Shared)
	}
	// Who goes leaves the line to the others.
	if _, err := held.conn.WriteTo([]byte("\x00\x05\x00\x00enough\x00"), from); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return server.Stats().Running == 8 }, func() string { return fmt.Sprintf("%+v", server.Stats()) })
}

func serveFewLines(t *testing.T, own, shared int, o Options) (*Server, netip.AddrPort) {
	t.Helper()
	server, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	server.lines.own, server.lines.shared = own, shared
	return server, run(t, server, "udp4", "127.0.0.1:0")
}

func TestLinesAreClosedAfterTheLastTransfer(t *testing.T) {
	server, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"f": noise(5000)})})
	seen := map[uint16]bool{}
	for range 20 {
		r := newReader(t, "127.0.0.1:0", at)
		if _, err := r.read("f", ""); err != nil {
			t.Fatal(err)
		}
		seen[r.server.Port()] = true
	}
	waitFor(t, func() bool { return server.lines.plugged() == 0 && server.Stats().Running == 0 }, func() string { return fmt.Sprint(server.lines.plugged()) })
	if len(seen) < 15 {
		t.Errorf("20 transfers came from %d ports", len(seen))
	}
	_, at = serveFewLines(t, 0, 1, Options{Open: holding(map[string][]byte{"f": noise(5000)})})
	one, two := newReader(t, "127.0.0.1:0", at), newReader(t, "127.0.0.1:0", at)
	for _, r := range []*reader{one, two} { // others have all the lines that may be opened
		if got, err := r.read("f", ""); err != nil || len(got) != 5000 {
			t.Errorf("read %d bytes, %v; want all of the file", len(got), err)
		}
	}
	if one.server != two.server {
		t.Errorf("transfers that share a line came from %s and %s", one.server, two.server)
	}
}
