package bootfile

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const big = 32 << 20 // more than sockets take that nobody reads

func TestPacketsThatCanGrowAreHeldBackWhileAFileGoesOut(t *testing.T) {
	reader, socket := sockets(t)
	sent, file := make(chan error, 1), bigFile(t)
	go func() {
		_, err := NewConn(socket, &Ends{}).ReadFrom(&io.LimitedReader{R: file, N: big})
		sent <- err
	}()
	for end := time.Now().Add(10 * time.Second); corked(t, socket) != 1; {
		if time.Now().After(end) {
			t.Fatal("the socket is never corked")
		}
	}
	if n, err := io.CopyN(io.Discard, reader, big); err != nil {
		t.Errorf("%d bytes arrived, want all %d: %v", n, big, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if on := corked(t, socket); on != 0 {
		t.Errorf("TCP_CORK afterwards: %d, want 0", on)
	}
}

func TestAReaderThatStandsStillIsCountedAndUncorked(t *testing.T) {
	_, socket := sockets(t)
	ends := &Ends{}
	conn := NewConn(socket, ends)
	if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.ReadFrom(&io.LimitedReader{R: bigFile(t), N: big})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("sending to who does not read = %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if n, on := ends.StalledReaders.Load(), corked(t, socket); n != 1 || on != 0 {
		t.Errorf("%d stalled readers, TCP_CORK %d; want 1 and 0", n, on)
	}
}

// A slowSource is a body that is waited for, as what a relay passes on.
type slowSource struct {
	t      *testing.T
	socket net.Conn
	corked int
}

func (s *slowSource) Read(b []byte) (int, error) {
	s.corked = corked(s.t, s.socket)
	return copy(b, "a part"), io.EOF
}

func TestWhatIsWaitedForIsNotHeldBack(t *testing.T) {
	reader, socket := sockets(t)
	source := &slowSource{t: t, socket: socket, corked: -1}
	if _, err := NewConn(socket, &Ends{}).ReadFrom(&io.LimitedReader{R: source, N: big}); err != nil {
		t.Fatal(err)
	}
	if source.corked != 0 {
		t.Errorf("TCP_CORK while it is waited for: %d, want 0", source.corked)
	}
	got := make([]byte, len("a part"))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "a part" {
		t.Errorf("reader got %q, %v", got, err)
	}
}

// sockets returns the two ends of a connection.
func sockets(t *testing.T) (reader, socket net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reader, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	socket, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return reader, socket
}

func bigFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "big"))
	if err == nil {
		err = f.Truncate(big)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func corked(t *testing.T, conn net.Conn) (on int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	e := raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK) })
	if err := errors.Join(e, err); err != nil {
		t.Fatal(err)
	}
	return on
}
