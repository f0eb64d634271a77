package sockbuf_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/internal/sockbuf"
)

// As root, whatever the system's limit is.
func TestASocketHasTheRoomOfARack(t *testing.T) {
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sockbuf.Grow(conn); err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option); err != nil || got < sockbuf.Size {
				t.Errorf("option %d is %d (%v), want %d or more", option, got, err, sockbuf.Size)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}
