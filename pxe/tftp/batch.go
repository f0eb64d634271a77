package tftp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchIn  = 64  // packets read by one system call
	batchOut = 128 // packets sent by one
	// controlSize holds the address of ours that a packet came to.
	controlSize = 64
)

// A sockaddr is an address as the kernel writes it.
type sockaddr struct {
	raw  [unix.SizeofSockaddrInet6]byte
	size uint32
}

// A peer is who sends us packets, fit to be a key: address, port, and for a
// link-local address the interface.
type peer struct {
	ap   netip.AddrPort
	zone uint32
}

// peer reads an address. The kernel wrote it, so it is whole.
func (a *sockaddr) peer() peer {
	port := binary.BigEndian.Uint16(a.raw[2:])
	if a.size < unix.SizeofSockaddrInet6 {
		return peer{ap: netip.AddrPortFrom(netip.AddrFrom4([4]byte(a.raw[4:8])), port)}
	}
	addr := netip.AddrFrom16([16]byte(a.raw[8:24])).Unmap()
	return peer{ap: netip.AddrPortFrom(addr, port), zone: binary.NativeEndian.Uint32(a.raw[24:])}
}

// An inbox reads packets by the batch.
type inbox struct {
	msgs     [batchIn]unix.Mmsghdr
	iovs     [batchIn]unix.Iovec
	from     [batchIn]sockaddr
	controls [batchIn][controlSize]byte
	data     [batchIn][maxRequest + 1]byte
	fresh    int // how many, from the first, the kernel has written to
}

func newInbox() *inbox { return &inbox{fresh: batchIn} }

// A packet is one that came. It is good until the next is read.
type packet struct {
	data  []byte
	from  *sockaddr
	local netip.Addr // the address of ours that it came to; zero when the socket has only one, or is a line
	line  *line      // that it came by
}

// read takes what waits at a socket that does not block; 0 when that is
// nothing.
func (in *inbox) read(fd int) (int, error) {
	for i := range in.fresh {
		in.iovs[i].Base = &in.data[i][0]
		in.iovs[i].SetLen(len(in.data[i]))
		h := &in.msgs[i].Hdr
		h.Name, h.Namelen = &in.from[i].raw[0], uint32(len(in.from[i].raw))
		h.Iov = &in.iovs[i]
		h.SetIovlen(1)
		h.Control = &in.controls[i][0]
		h.SetControllen(controlSize)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msgs[0])), batchIn, unix.MSG_DONTWAIT, 0, 0)
	in.fresh = 0
	switch errno {
	case 0:
		in.fresh = int(n)
		return in.fresh, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	default:
		return 0, errno
	}
}

// packet returns one that was read. The length counts one byte more than any
// request has, so that what was cut off is seen to be too long.
func (in *inbox) packet(i int) packet {
	m := &in.msgs[i]
	in.from[i].size = m.Hdr.Namelen
	return packet{
		data:  in.data[i][:min(int(m.Len), len(in.data[i]))],
		from:  &in.from[i],
		local: localOf(in.controls[i][:min(int(m.Hdr.Controllen), controlSize)]), //nolint:gosec // the kernel wrote at most controlSize
	}
}

// localOf finds the address that a packet came to in its control message.
func localOf(control []byte) netip.Addr {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return netip.Addr{}
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// ipi_spec_dst is ours even when the packet was a broadcast, but is
			// not filled in for packets that came before we asked for it.
			if ours := netip.AddrFrom4([4]byte(data[4:8])); !ours.IsUnspecified() {
				return ours
			}
			return netip.AddrFrom4([4]byte(data[8:12]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return withZone(netip.AddrFrom16([16]byte(data[:16])).Unmap(), binary.NativeEndian.Uint32(data[16:]))
		}
		control = rest
	}
	return netip.Addr{}
}

// withZone keeps the interface of a link-local address.
func withZone(a netip.Addr, index uint32) netip.Addr {
	if !a.IsLinkLocalUnicast() || a.Is4() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(index), 10))
}

// leaveFrom makes the control message that gives a packet its source address.
func leaveFrom(local netip.Addr, v6 bool) []byte {
	if !local.IsValid() || local.IsMulticast() {
		return nil
	}
	if !v6 {
		info := &unix.Inet4Pktinfo{Spec_dst: local.As4()}
		return unix.PktInfo4(info)
	}
	zone, _ := strconv.ParseUint(local.Zone(), 10, 32) // none: 0
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: uint32(zone)})
}

// An outbox sends packets by the batch. What a packet is made of must stay as
// it is until flush.
type outbox struct {
	fd    int
	n     int
	msgs  [batchOut]unix.Mmsghdr
	iovs  [batchOut][2]unix.Iovec
	heads [batchOut][4]byte
	lost  *atomic.Int64 // packets that the kernel would not take
}

// add puts a packet in, that leaves by a socket: four bytes, and what follows
// them.
func (o *outbox) add(fd int, to *sockaddr, control []byte, head [4]byte, body []byte) {
	if o.n == batchOut || fd != o.fd {
		o.flush()
	}
	o.fd = fd
	i := o.n
	o.n++
	o.heads[i] = head
	o.iovs[i][0].Base = &o.heads[i][0]
	o.iovs[i][0].SetLen(len(head))
	o.iovs[i][1].Base = unsafe.SliceData(body)
	o.iovs[i][1].SetLen(len(body))
	h := &o.msgs[i].Hdr
	h.Name, h.Namelen = &to.raw[0], to.size
	h.Iov = &o.iovs[i][0]
	h.SetIovlen(len(o.iovs[i]))
	h.Control = unsafe.SliceData(control)
	h.SetControllen(len(control))
}

// flush sends what was put in. A packet that cannot be sent counts as lost on
// the way: the same happens to packets out there.
func (o *outbox) flush() {
	for at, waits := 0, 0; at < o.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(o.fd), uintptr(unsafe.Pointer(&o.msgs[at])), uintptr(o.n-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			at += int(n)
		case errno == unix.EINTR:
		case errors.Is(errno, syscall.EAGAIN) && waits < 10: // the card is busy
			waits++
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLOUT}}, 2)
		default: // no route, or a packet filter: of this one
			o.lost.Add(1)
			at++
		}
	}
	runtime.KeepAlive(o)
	for i := range o.n { // hold on to no file
		o.iovs[i][1].Base, o.msgs[i].Hdr.Name, o.msgs[i].Hdr.Control = nil, nil, nil
	}
	o.n = 0
}
