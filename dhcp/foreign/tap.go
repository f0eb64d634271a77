package foreign

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// Where things are in a frame.
const (
	etherLen    = 14
	ipLen       = 20
	udpLen      = 8
	maxFrame    = 2048
	serverPort  = 67
	clientPort  = 68
	pxePort     = 4011
	bootReplyOp = 2
)

// replyFilter lets replies of DHCP servers through, of all that an interface
// receives: the kernel drops the rest before it copies anything.
var replyFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: etherLen + 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 9},
	bpf.LoadAbsolute{Off: etherLen + 6, Size: 2}, // fragments, but the first, have no ports
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 7},
	bpf.LoadMemShift{Off: etherLen}, // length of the IP header
	bpf.LoadIndirect{Off: etherLen, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: serverPort, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: pxePort, SkipTrue: 3},
	bpf.LoadIndirect{Off: etherLen + udpLen, Size: 1}, // op
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: bootReplyOp, SkipTrue: 1},
	bpf.RetConstant{Val: maxFrame},
	bpf.RetConstant{Val: 0},
}

// A tap hears the replies of DHCP servers on one interface, and sends frames.
type tap struct {
	file   *os.File
	once   sync.Once
	broken atomic.Bool // nobody reads it any more
	buf    [maxFrame]byte

	mu  sync.Mutex
	net Network
}

// openTap needs CAP_NET_RAW. The interface takes frames for the imaginary
// client, too: not every server minds the flag that asks for a broadcast.
func openTap(n Network, client fleet.MAC) (*tap, error) {
	// Without a protocol it receives nothing until it is bound: no frame gets
	// past the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	t := &tap{file: os.NewFile(uintptr(fd), "packet:"+n.Name), net: n}
	if err := t.prepare(fd, client); err != nil {
		_ = t.file.Close()
		return nil, fmt.Errorf("listen on %s: %w", n.Name, err)
	}
	return t, nil
}

func (t *tap) prepare(fd int, client fleet.MAC) error {
	raw, err := bpf.Assemble(replyFilter)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil { //nolint:gosec // a dozen
		return fmt.Errorf("set filter: %w", err)
	}
	also := unix.PacketMreq{Ifindex: int32(t.net.Index), Type: unix.PACKET_MR_UNICAST, Alen: 6} //nolint:gosec // the kernel's own number
	copy(also.Address[:], client.Hardware())
	_ = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &also) // interfaces without such a list hear broadcasts
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: t.net.Index})
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func (t *tap) close() { t.once.Do(func() { _ = t.file.Close() }) }

// read waits for a frame. It is good until the next one is read.
func (t *tap) read() ([]byte, error) {
	n, err := t.file.Read(t.buf[:])
	return t.buf[:n], err
}

func (t *tap) send(frame []byte) error {
	_, err := t.file.Write(frame)
	return err
}

func (t *tap) network() Network {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.net
}

func (t *tap) setNetwork(n Network) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.net = n
}

// broadcastMAC is everybody's hardware address.
var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
