package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/internal/porthold"
	"github.com/rackstage/provision/internal/sockbuf"
)

const (
	serverPort = 67
	clientPort = 68
	proxyPort  = 4011

	batchSize = 64
	maxPacket = 2048
	writeWait = 20 * time.Millisecond
)

// A socket is one UDP port on all interfaces. Control messages say by which
// interface a packet came, and by which it shall go.
type socket struct {
	conn  *net.UDPConn
	batch *ipv4.PacketConn
	proxy bool
	once  sync.Once

	mu  sync.Mutex // writers share the messages
	out []ipv4.Message
}

func listen(ctx context.Context, port int) (*socket, error) {
	pc, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, porthold.CannotListen("udp", port, "stop that server: two cannot share the port", err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on UDP %d: no UDP socket", port), pc.Close())
	}
	s := &socket{conn: conn, batch: ipv4.NewPacketConn(conn), proxy: port == proxyPort, out: make([]ipv4.Message, 0, commit.GroupSize)}
	if err := errors.Join(sockbuf.Grow(conn), s.batch.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", port, err), conn.Close())
	}
	return s, nil
}

func (s *socket) close() { s.once.Do(func() { _ = s.conn.Close() }) }

// A batch is packets as one system call reads them.
type batch struct {
	messages []ipv4.Message
	control  ipv4.ControlMessage
}

func newBatch() *batch {
	b := &batch{messages: make([]ipv4.Message, batchSize)}
	for i := range b.messages {
		b.messages[i].Buffers = [][]byte{make([]byte, maxPacket)}
		b.messages[i].OOB = ipv4.NewControlMessage(ipv4.FlagDst | ipv4.FlagInterface)
	}
	return b
}

// read waits for packets and returns how many came.
func (s *socket) read(b *batch) (int, error) {
	for i := range b.messages {
		b.messages[i].OOB = b.messages[i].OOB[:cap(b.messages[i].OOB)]
	}
	return s.batch.ReadBatch(b.messages, 0)
}

func (b *batch) packet(i int) []byte { return b.messages[i].Buffers[0][:b.messages[i].N] }

func (b *batch) arrival(i int, proxy bool) arrival {
	a := arrival{proxy: proxy}
	m := &b.messages[i]
	if udp, ok := m.Addr.(*net.UDPAddr); ok {
		ap := udp.AddrPort()
		a.from = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	b.control = ipv4.ControlMessage{}
	if err := b.control.Parse(m.OOB[:m.NN]); err == nil {
		a.ifindex = b.control.IfIndex
		a.to = addrOf(b.control.Dst.To4())
	}
	return a
}

// write sends packets. One that the kernel refuses does not keep the others
// back. It returns how many failed, and the last error.
func (s *socket) write(out []reply) (failed int, last error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = s.out[:0]
	for _, r := range out {
		control := ipv4.ControlMessage{Src: r.from.AsSlice(), IfIndex: r.ifindex}
		s.out = append(s.out, ipv4.Message{
			Buffers: [][]byte{r.packet}, OOB: control.Marshal(), Addr: net.UDPAddrFromAddrPort(r.to),
		})
	}
	// Where there is no room, answers are lost and their clients ask again: it is
	// better than to hear nobody until there is.
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return len(out), err
	}
	late := false
	for rest := s.out; len(rest) > 0; {
		n, err := s.batch.WriteBatch(rest, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) && n <= 0 && !late {
			// On a busy machine the time may be over before the first attempt,
			// which then is none. Once more, with a new deadline.
			late = true
			if s.conn.SetWriteDeadline(time.Now().Add(writeWait)) == nil {
				continue
			}
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			failed++
			last = err
			n = max(n, 0) + 1 // the first that was not sent is the one refused
		}
		rest = rest[min(max(n, 0), len(rest)):]
		if n <= 0 && err == nil {
			break
		}
	}
	clear(s.out)
	return failed, last
}
