package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/internal/porthold"
	"github.com/rackstage/provision/internal/sockbuf"
)

const (
	serverPort = 547
	clientPort = 546

	batchSize = 64
	maxPacket = 2048
)

var (
	allServers     = netip.MustParseAddr("ff02::1:2") // All_DHCP_Relay_Agents_and_Servers
	allSiteServers = netip.MustParseAddr("ff05::1:3") // All_DHCP_Servers: where relays write to unless told otherwise
)

// A socket is UDP 547 on all interfaces. Control messages say by which
// interface a packet came, and by which it shall go.
type socket struct {
	conn   *net.UDPConn
	batch  *ipv6.PacketConn
	once   sync.Once
	joined groups
}

func listen(ctx context.Context) (*socket, error) {
	pc, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp6", fmt.Sprintf("[::]:%d", serverPort))
	if err != nil {
		return nil, porthold.CannotListen("udp", serverPort, "stop that server: two cannot share the port", err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on UDP %d: no UDP socket", serverPort), pc.Close())
	}
	s := &socket{conn: conn, batch: ipv6.NewPacketConn(conn), joined: groups{}}
	if err := errors.Join(sockbuf.Grow(conn), s.batch.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", serverPort, err), conn.Close())
	}
	return s, nil
}

func (s *socket) close() { s.once.Do(func() { _ = s.conn.Close() }) }

// groups is the interfaces on which multicast groups were joined.
type groups map[int]bool

// follow joins groups on the interfaces that are wanted, and leaves them on
// the others.
func (g groups) follow(p *ipv6.PacketConn, wanted map[int]bool, group ...netip.Addr) {
	for index := range wanted {
		if g[index] {
			continue
		}
		ok := true
		for _, a := range group {
			ok = p.JoinGroup(&net.Interface{Index: index}, &net.UDPAddr{IP: a.AsSlice()}) == nil && ok
		}
		if ok {
			g[index] = true
		}
	}
	for index := range g {
		if wanted[index] {
			continue
		}
		for _, a := range group {
			_ = p.LeaveGroup(&net.Interface{Index: index}, &net.UDPAddr{IP: a.AsSlice()}) // it may be gone
		}
		delete(g, index)
	}
}

func newBatch() []ipv6.Message {
	b := make([]ipv6.Message, batchSize)
	for i := range b {
		b[i].Buffers = [][]byte{make([]byte, maxPacket)}
		b[i].OOB = ipv6.NewControlMessage(ipv6.FlagDst | ipv6.FlagInterface)
	}
	return b
}

// read waits for packets and returns how many came.
func (s *socket) read(b []ipv6.Message) (int, error) {
	for i := range b {
		b[i].OOB = b[i].OOB[:cap(b[i].OOB)]
	}
	return s.batch.ReadBatch(b, 0)
}

func arrivalOf(m *ipv6.Message) (a arrival) {
	if udp, ok := m.Addr.(*net.UDPAddr); ok {
		a.from = udp.AddrPort()
	}
	var control ipv6.ControlMessage
	if err := control.Parse(m.OOB[:m.NN]); err == nil {
		a.ifindex = control.IfIndex
		a.to, _ = netip.AddrFromSlice(control.Dst)
	}
	return a
}

// write sends packets. One that the kernel refuses does not keep the others
// back. It returns how many failed, and the last error.
func (s *socket) write(out []reply) (failed int, last error) {
	for _, r := range out {
		control := &ipv6.ControlMessage{}
		if r.to.Addr().IsLinkLocalUnicast() {
			control.IfIndex = r.ifindex
		}
		if r.from.IsValid() {
			control.Src = r.from.AsSlice()
		}
		if _, err := s.batch.WriteTo(r.packet, control, net.UDPAddrFromAddrPort(r.to)); err != nil {
			failed, last = failed+1, err
		}
	}
	return failed, last
}
