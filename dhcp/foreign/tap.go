package foreign

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// Where things are in a frame.
const (
	etherLen    = 14
	ipLen       = 20
	ip6Len      = 40
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

// replyFilter6 lets through what DHCPv6 servers say to clients, and routers to
// all. Both come without extension headers.
var replyFilter6 = []bpf.Instruction{
	bpf.LoadAbsolute{Off: etherLen + 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 7},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 9},
	bpf.LoadAbsolute{Off: etherLen + ip6Len, Size: 4}, // both ports
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: server6Port<<16 | client6Port, SkipTrue: 7},
	bpf.LoadAbsolute{Off: etherLen + ip6Len + udpLen, Size: 1}, // kind of message
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertise6, SkipTrue: 4},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: reply6, SkipTrue: 3},
	bpf.Jump{Skip: 3},
	bpf.LoadAbsolute{Off: etherLen + ip6Len, Size: 1}, // kind of ICMP message
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpAdvertise, SkipTrue: 1},
	bpf.RetConstant{Val: maxFrame},
	bpf.RetConstant{Val: 0},
}

// A family is how replies of one are found and read.
type family struct {
	name     string
	protocol uint16 // of its frames
	filter   []bpf.Instruction
	parse    func(frame []byte) (sighting, error)
	probes   func(n Network, client fleet.MAC) [][]byte
}

var families = []*family{
	{"ipv4", unix.ETH_P_IP, replyFilter, parseReply, probes},
	{"ipv6", unix.ETH_P_IPV6, replyFilter6, parseReply6, probes6},
}

// A tap hears the replies of one family on one interface, and sends frames.
type tap struct {
	*family
	file   *os.File
	once   sync.Once
	broken atomic.Bool // nobody reads it any more
	buf    [maxFrame]byte

	mu     sync.Mutex
	net    Network
	probed time.Time // when we asked last
}

// openTap needs CAP_NET_RAW. The interface takes frames for the imaginary
// client, too: not every server minds the flag that asks for a broadcast. And
// it takes those for all machines of IPv6, whether the kernel speaks it there
// or not.
func openTap(f *family, n Network, client fleet.MAC) (*tap, error) {
	// Without a protocol it receives nothing until it is bound: no frame gets
	// past the filter.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	t := &tap{family: f, file: os.NewFile(uintptr(fd), "packet:"+n.Name), net: n}
	if err := t.prepare(fd, client); err != nil {
		_ = t.file.Close()
		return nil, fmt.Errorf("listen on %s: %w", n.Name, err)
	}
	return t, nil
}

func (t *tap) prepare(fd int, client fleet.MAC) error {
	raw, err := bpf.Assemble(t.filter)
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
	for kind, addr := range map[uint16]net.HardwareAddr{unix.PACKET_MR_UNICAST: client.Hardware(), unix.PACKET_MR_MULTICAST: groupMAC(allNodes)} {
		also := unix.PacketMreq{Ifindex: int32(t.net.Index), Type: kind, Alen: 6} //nolint:gosec // the kernel's own number
		copy(also.Address[:], addr)
		_ = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &also) // interfaces without such a list hear all
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(t.protocol), Ifindex: t.net.Index})
}

// ask sends the probes of the family, and returns how many it did not send,
// and why.
func (t *tap) ask(client fleet.MAC, now time.Time) (sent, unsent int, last error) {
	t.mu.Lock()
	n := t.net
	t.probed = now
	t.mu.Unlock()
	for _, frame := range t.probes(n, client) {
		if _, err := t.file.Write(frame); err != nil {
			unsent, last = unsent+1, err
			continue
		}
		sent++
	}
	return sent, unsent, last
}

// answers reports whether a reply is to a probe of ours. Routers answer
// everybody at once: what one says soon after we have asked is an answer.
func (t *tap) answers(r sighting, client fleet.MAC, now time.Time) bool {
	if !r.Router {
		return fleet.MAC(r.Client.String()) == client
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.probed) <= answerTime
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
