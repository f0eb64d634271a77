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
