package tftp

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// idleLoop is one whose goroutine does not run.
func idleLoop(t *testing.T) *loop {
	t.Helper()
	s, err := New(Options{Open: holding(nil)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.newLoop(t.Context(), site{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestRequestsThatNobodyLooksAtAreBounded(t *testing.T) {
	l := idleLoop(t)
	from := sockaddr{size: unix.SizeofSockaddrInet4}
	dispatch := l.server.dispatch([]*loop{l}, newLane(l.server.gate, netip.Addr{}))
	for range mostWaiting + 10 {
		dispatch(request{name: "f", mode: "octet"}, &packet{from: &from}, time.Time{})
	}
	l.post(func(time.Time) {}) // of a transfer that is known
	if n, st := len(l.mail), l.server.Stats(); n != mostWaiting+1 || st.Unread != 10 {
		t.Errorf("%d wait and %d were dropped, want %d and 10", n, st.Unread, mostWaiting+1)
	}
	l.mail = nil
	l.readMail(time.Time{})
	if l.hand(func(time.Time) {}); len(l.mail) != 1 {
		t.Error("after they were looked at, none is taken")
	}
}

func TestPacketsThatTheKernelDoesNotTakeAreCounted(t *testing.T) {
	l := idleLoop(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	to := sockaddr{size: unix.SizeofSockaddrInet4} // of no family
	to.raw[0] = 0xff
	l.out.add(fd, &to, nil, [4]byte{0, opERROR, 0, 0}, []byte("x\x00"))
	l.out.flush()
	if n := l.server.Stats().Unsent; n != 1 {
		t.Errorf("%d packets were not sent, want 1", n)
	}
}

// The number of a descriptor is given again at once: to a database, or to the
// pipe by which a child tells that it could not start, where a late 1 is EPERM.
func TestALoopThatIsClosedWritesToNobody(t *testing.T) {
	l := idleLoop(t)
	wake := l.wake
	l.close()
	other, err := unix.FcntlInt(uintptr(unix.Stdin), unix.F_DUPFD_CLOEXEC, wake)
	if err != nil || other != wake {
		t.Fatalf("descriptor %d is not free: got %d, %v", wake, other, err)
	}
	// It is the test's now: what it stands for can be changed.
	fresh, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fresh) }()
	if err := unix.Dup3(fresh, other, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l.stir()
	l.post(func(time.Time) {})
	var b [8]byte
	if n, err := unix.Read(fresh, b[:]); err == nil {
		t.Errorf("%d bytes went to somebody else: %x", n, b[:n])
	}
	l.close()
	if err := unix.Close(other); err != nil {
		t.Errorf("closed twice, and what was not its own: %v", err)
	}
}

func TestARequestThatComesWithTheEndIsEndedToo(t *testing.T) {
	var ended []Transfer
	s, err := New(Options{Open: holding(map[string][]byte{"f": noise(100)}), Done: func(tr Transfer) { ended = append(ended, tr) }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.newLoop(t.Context(), site{at: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.base = &line{fd: -1} // nobody hears what is sent
	from := sockaddr{size: unix.SizeofSockaddrInet4}
	l.hand(func(now time.Time) { l.begin(request{name: "f", mode: "octet"}, from, netip.Addr{}, now) })
	l.breakOff()
	if len(l.mail) != 0 || len(l.transfers) != 0 || len(ended) != 1 {
		t.Errorf("%d letters and %d transfers are left, %d ended; want 0, 0, 1", len(l.mail), len(l.transfers), len(ended))
	}
	l.files.Wait()
	if len(l.mail) != 0 {
		t.Error("a file was opened for a loop that has ended")
	}
}
