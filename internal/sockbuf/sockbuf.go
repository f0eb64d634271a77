// Package sockbuf gives a socket room for the packets of a rack that is
// switched on at once.
package sockbuf

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Size is enough for a rack of 500. The usual 208 KiB hold 350 packets.
const Size = 8 << 20

// Grow asks for more than the system's limit, which takes CAP_NET_ADMIN, and
// takes what it gets without. What we send needs room as well: an answer to an
// address that nobody has stays in there until ARP gives up, for 3 s.
func Grow(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var forced error
	if err := raw.Control(func(fd uintptr) {
		forced = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, Size),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, Size),
		)
	}); err != nil {
		return err
	}
	if forced != nil {
		return errors.Join(conn.SetReadBuffer(Size), conn.SetWriteBuffer(Size))
	}
	return nil
}
