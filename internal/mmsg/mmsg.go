// Package mmsg reads and writes many UDP packets over IPv4 in one system call,
// recvmmsg and sendmmsg (Linux), without allocation.
//
// It says of each packet which interface and which of our addresses it came to,
// and takes the same of each that leaves. golang.org/x/net/ipv4 can do that too,
// at the price of several allocations for each packet: on a server that answers
// tens of thousands a second, that is most of what it does.
package mmsg

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// header is struct mmsghdr.
type header struct {
	msg unix.Msghdr
	n   uint32
	_   [4]byte // struct mmsghdr is as long as its alignment wants
}

// pktinfo is a control message with struct in_pktinfo, in the form that both
// directions use.
type pktinfo struct {
	header unix.Cmsghdr
	info   unix.Inet4Pktinfo
	_      [4]byte
}

var pktinfoLen = uint64(unix.CmsgLen(unix.SizeofInet4Pktinfo)) //nolint:gosec // 28

// A Conn is a UDP socket.
type Conn struct {
	udp *net.UDPConn
	raw syscall.RawConn
}

// New takes a socket over; the caller still closes it. With info, packets say
// where they came to.
func New(udp *net.UDPConn, info bool) (*Conn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	if info {
		var set error
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) })
		if err = errors.Join(err, set); err != nil {
			return nil, err
		}
	}
	return &Conn{udp, raw}, nil
}

// A Batch is packets that are read, or written, at once. It belongs to one
// goroutine.
type Batch struct {
	headers []header
	iovs    []unix.Iovec
	names   []unix.RawSockaddrInet4
	infos   []pktinfo
	buffer  []byte // of a batch to read into
	size    int    // of one packet in it
	filled  int

	// What the function for the runtime's poller works with: it is made once.
	done  func(fd uintptr) bool
	waits bool // for room in the kernel
	begin int
	n     int
	errno syscall.Errno
}

// NewReader returns a batch to read up to count packets of up to size bytes
// with. What is longer is cut off.
func NewReader(count, size int) *Batch {
	b := newBatch(count)
	b.buffer, b.size = make([]byte, count*size), size
	for i := range b.headers {
		b.iovs[i].Base = &b.buffer[i*size]
		b.iovs[i].SetLen(size)
	}
	b.done = b.recv
	return b
}

// NewWriter returns a batch to write up to count packets with.
func NewWriter(count int) *Batch {
	b := newBatch(count)
	b.done = b.send
	return b
}

func newBatch(count int) *Batch {
	b := &Batch{
		headers: make([]header, count), iovs: make([]unix.Iovec, count),
		names: make([]unix.RawSockaddrInet4, count), infos: make([]pktinfo, count),
	}
	for i := range b.headers {
		m := &b.headers[i].msg
		m.Iov, m.Name, m.Control = &b.iovs[i], (*byte)(unsafe.Pointer(&b.names[i])), (*byte)(unsafe.Pointer(&b.infos[i]))
		m.SetIovlen(1)
	}
	return b
}

// Read waits for packets and reads those that are there.
func (b *Batch) Read(c *Conn) (n int, err error) {
	for i := range b.headers {
		m := &b.headers[i].msg
		m.Namelen = unix.SizeofSockaddrInet4
		m.SetControllen(int(unsafe.Sizeof(pktinfo{})))
	}
	if err := c.raw.Read(b.done); err != nil {
		return 0, err
	}
	if b.errno != 0 {
		return 0, b.errno
	}
	return b.n, nil
}

func (b *Batch) recv(fd uintptr) bool {
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(b.headers)), unix.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		b.n, b.errno = int(n), errno
		return errno != syscall.EAGAIN
	}
}

// Packet returns the bytes of the i-th packet that was read. They hold until
// the next Read.
func (b *Batch) Packet(i int) []byte {
	start := i * b.size
	return b.buffer[start : start+int(b.headers[i].n) : start+b.size]
}

// From returns who sent the i-th packet.
func (b *Batch) From(i int) netip.AddrPort {
	n := &b.names[i]
	return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), swap(n.Port))
}

// To returns the address that the i-th packet was sent to, ours or one of a
// broadcast, and the interface that it came by.
func (b *Batch) To(i int) (to netip.Addr, ifindex int) {
	p := &b.infos[i]
	if b.headers[i].msg.Controllen < pktinfoLen || p.header.Level != unix.IPPROTO_IP || p.header.Type != unix.IP_PKTINFO {
		return netip.Addr{}, 0
	}
	return netip.AddrFrom4(p.info.Addr), int(p.info.Ifindex)
}

// Len returns how many packets wait to be written.
func (b *Batch) Len() int { return b.filled }

// Full reports whether there is no room for another packet.
func (b *Batch) Full() bool { return b.filled == len(b.headers) }

// Add adds a packet that is to be written, whose bytes must not change until
// then. A destination is for sockets that are not connected. From is the source
// address and ifindex the interface; invalid and 0 leave the choice to the
// kernel.
func (b *Batch) Add(packet []byte, to netip.AddrPort, from netip.Addr, ifindex int) {
	i := b.filled
	m := &b.headers[i].msg
	b.iovs[i].Base = unsafe.SliceData(packet)
	b.iovs[i].SetLen(len(packet))
	m.Namelen, m.Controllen = 0, 0
	if to.IsValid() {
		b.names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap(to.Port()), Addr: to.Addr().As4()}
		m.Namelen = unix.SizeofSockaddrInet4
	}
	if from.IsValid() || ifindex != 0 {
		p := &b.infos[i]
		p.header = unix.Cmsghdr{Len: pktinfoLen, Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO}
		p.info = unix.Inet4Pktinfo{Ifindex: int32(ifindex)} //nolint:gosec // the kernel counts them in an int
		if from.IsValid() {
			p.info.Spec_dst = from.As4()
		}
		m.SetControllen(int(unsafe.Sizeof(pktinfo{})))
	}
	b.filled++
}

// Write writes the packets that were added, and waits for room in the kernel.
// One that the kernel refuses does not keep the others back. It returns how
// many failed, and the last error.
func (b *Batch) Write(c *Conn) (failed int, last error) { return b.WriteWithin(c, 0) }

// WriteWithin is Write that waits for so long at most (0: for ever): then the
// packets that there is no room for have failed.
func (b *Batch) WriteWithin(c *Conn, wait time.Duration) (failed int, last error) {
	for b.begin = 0; b.begin < b.filled; {
		if err := b.try(c, wait); err != nil { // closed, or too late
			failed, last = failed+b.filled-b.begin, err
			break
		}
		if b.errno != 0 {
			failed, last = failed+1, b.errno
			b.n = 1 // it is the first that was refused
		}
		b.begin += b.n
	}
	for i := range b.filled {
		b.iovs[i].Base = nil // the packet is its owner's again
	}
	b.filled = 0
	return failed, last
}

// try writes what there is room for. The time begins when there is none: on a
// busy machine it could be over before the first attempt.
func (b *Batch) try(c *Conn, wait time.Duration) error {
	b.waits = wait == 0
	if err := c.raw.Write(b.done); err != nil || b.errno != syscall.EAGAIN {
		return err
	}
	if err := c.udp.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	b.waits = true
	err := c.raw.Write(b.done)
	return errors.Join(err, c.udp.SetWriteDeadline(time.Time{}))
}

func (b *Batch) send(fd uintptr) bool {
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.headers[b.begin])), uintptr(b.filled-b.begin), unix.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		b.n, b.errno = int(n), errno
		return errno != syscall.EAGAIN || !b.waits
	}
}

// swap turns a port from or into network byte order.
func swap(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
