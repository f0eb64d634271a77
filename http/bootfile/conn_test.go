package bootfile

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A corkSource is a body that looks at the socket it goes out by.
type corkSource struct {
	t      *testing.T
	socket net.Conn
	corked []int
}

func (s *corkSource) Read(b []byte) (int, error) {
	s.corked = append(s.corked, corked(s.t, s.socket))
	return copy(b, "the tail"), io.EOF
}

func TestPacketsThatCanGrowAreHeldBackWhileAFileGoesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reader, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	socket, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	source := &corkSource{t: t, socket: socket}
	if _, err := NewConn(socket, &Ends{}).ReadFrom(source); err != nil {
		t.Fatal(err)
	}
	if len(source.corked) != 1 || source.corked[0] != 1 {
		t.Errorf("TCP_CORK while it goes out: %v, want 1", source.corked)
	}
	if on := corked(t, socket); on != 0 {
		t.Errorf("TCP_CORK afterwards: %d, want 0", on)
	}
	got := make([]byte, len("the tail"))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "the tail" {
		t.Errorf("reader got %q, %v", got, err)
	}
}

func corked(t *testing.T, conn net.Conn) (on int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	e := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK) })
	if err := errors.Join(e, err); err != nil {
		t.Fatal(err)
	}
	return on
}
