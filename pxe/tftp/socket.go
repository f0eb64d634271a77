package tftp

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// bufferSize holds the requests of a rack that is switched on at once, and the
// bursts of windows. The kernel counts an ACK as most of a KiB.
const bufferSize = 8 << 20

// A site is where a server's sockets are: what the one that requests come to
// is bound to.
type site struct {
	at   netip.AddrPort
	v6   bool
	many bool // it hears on all addresses, so each packet says which
}

// prepare makes the socket of requests fit for a loop: room for bursts, and
// where packets came to, if that can be several addresses.
func (s site) prepare(fd int) error {
	for opt, force := range map[int]int{unix.SO_RCVBUF: unix.SO_RCVBUFFORCE, unix.SO_SNDBUF: unix.SO_SNDBUFFORCE} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bufferSize) != nil { // takes CAP_NET_ADMIN
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, bufferSize)
		}
	}
	if err := s.fragment(fd); err != nil || !s.many {
		return err
	}
	level, info := unix.IPPROTO_IP, unix.IP_PKTINFO
	if s.v6 {
		level, info = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, info, 1))
}

// fragment has a socket never say "do not fragment": where a link is narrower
// than we thought, and says so to nobody, a fragment still gets through.
func (s site) fragment(fd int) error {
	level, discover := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if s.v6 {
		level, discover = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, discover, unix.IP_PMTUDISC_DONT))
}

// openLine opens a socket for transfers beside the one for requests, at a port
// that the kernel draws by lot.
func (s site) openLine() (fd int, port uint16, err error) {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := s.fragment(fd); err != nil {
		return -1, 0, err
	}
	if s.v6 { // an address that came up a moment ago may not be ready yet (RFC 4862 §5.4)
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	if err := unix.Bind(fd, toSockaddr(netip.AddrPortFrom(s.at.Addr(), 0), s.v6)); err != nil {
		return -1, 0, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return fd, uint16(a.Port), nil //nolint:gosec // a port
	case *unix.SockaddrInet6:
		return fd, uint16(a.Port), nil //nolint:gosec // a port
	}
	return -1, 0, fmt.Errorf("socket of kind %T", name)
}

// toSockaddr writes an address for a system call.
func toSockaddr(a netip.AddrPort, v6 bool) unix.Sockaddr {
	if !v6 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zoneIndex(a.Addr())}
}

// zoneIndex returns the interface of a link-local address; 0 for others.
func zoneIndex(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if ifc, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(ifc.Index) //nolint:gosec // small
	}
	var index uint32
	_, _ = fmt.Sscanf(a.Zone(), "%d", &index) // no number: 0
	return index
}

// roomTo returns how much of a file fits a packet to this client that no
// router has to cut.
func roomTo(client peer) int {
	most, headers := maxBlock, 20+8+4
	v6 := client.ap.Addr().Is6()
	if v6 {
		most, headers = maxBlock6, 40+8+4
	}
	mtu, err := pathMTU(client, v6)
	if err != nil || mtu-headers < plainBlock {
		return most
	}
	return min(most, mtu-headers)
}

// pathMTU asks the kernel how big a packet to a client may be. Nothing is
// sent.
func pathMTU(client peer, v6 bool) (int, error) {
	family, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
	if v6 {
		family, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	to := toSockaddr(client.ap, v6)
	if a, ok := to.(*unix.SockaddrInet6); ok {
		a.ZoneId = client.zone
	}
	if err := unix.Connect(fd, to); err != nil {
		return 0, os.NewSyscallError("connect", err)
	}
	mtu, err := unix.GetsockoptInt(fd, level, opt)
	return mtu, os.NewSyscallError("getsockopt", err)
}
