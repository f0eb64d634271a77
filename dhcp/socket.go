package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/internal/mmsg"
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
	batch *mmsg.Conn
	proxy bool
	once  sync.Once

	mu  sync.Mutex // writers share the batch
	out *mmsg.Batch
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
	s := &socket{conn: conn, proxy: port == proxyPort, out: mmsg.NewWriter(commit.GroupSize)}
	if s.batch, err = mmsg.New(conn, true); err == nil {
		err = sockbuf.Grow(conn)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", port, err), conn.Close())
	}
	return s, nil
}

func (s *socket) close() { s.once.Do(func() { _ = s.conn.Close() }) }

// newBatch returns what packets are read into.
func newBatch() *mmsg.Batch { return mmsg.NewReader(batchSize, maxPacket) }

// read waits for packets and returns how many came.
func (s *socket) read(in *mmsg.Batch) (int, error) { return in.Read(s.batch) }

// arrival is how a packet of a batch came.
func (s *socket) arrival(in *mmsg.Batch, i int) arrival {
	to, ifindex := in.To(i)
	return arrival{ifindex: ifindex, from: in.From(i), to: to, proxy: s.proxy}
}

// write sends packets. One that the kernel refuses does not keep the others
// back. Where there is no room, answers are lost and their clients ask again: it
// is better than to hear nobody until there is. It returns how many failed, and
// the last error.
func (s *socket) write(out []reply) (failed int, last error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range out {
		r := &out[i]
		s.out.Add(r.packet, r.to, r.from, r.ifindex)
		if !s.out.Full() && i < len(out)-1 {
			continue
		}
		if n, err := s.out.WriteWithin(s.batch, writeWait); err != nil {
			failed, last = failed+n, err
		}
	}
	return failed, last
}
