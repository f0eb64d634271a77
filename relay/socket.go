package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"

	"github.com/rackstage/provision/internal/porthold"
	"github.com/rackstage/provision/internal/sockbuf"
	"github.com/rackstage/provision/pxe/tftp"
)

const dhcpPort = 67

// A socket is UDP 67 on all interfaces: machines broadcast on theirs, and the
// server's replies come to our address there by whichever way the routes say.
type socket struct {
	conn *net.UDPConn
	p    *ipv4.PacketConn
}

func listenDHCP(ctx context.Context) (*socket, error) {
	conn, err := listenUDP(ctx, "udp4", dhcpPort)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, p: ipv4.NewPacketConn(conn)}
	if err := s.p.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", dhcpPort, err), conn.Close())
	}
	return s, nil
}

// listenUDP opens a port on all interfaces, of one family, with room for what
// comes at once.
func listenUDP(ctx context.Context, network string, port int) (*net.UDPConn, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, taken("udp", port, err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.New("listen for DHCP: no UDP socket"), pc.Close())
	}
	if err := sockbuf.Grow(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", port, err), conn.Close())
	}
	return conn, nil
}

func listenTFTP(ctx context.Context, at netip.Addr) (net.PacketConn, error) {
	c, err := tftp.Listen(ctx, netip.AddrPortFrom(at, tftp.Port))
	if err != nil {
		return nil, taken("udp", tftp.Port, err)
	}
	return c, nil
}

// taken says who holds a port that we need.
func taken(network string, port int, err error) error {
	return porthold.CannotListen(network, port, "stop it: a relay needs the ports of DHCP, TFTP and its server", err)
}

// A message is a packet of either family as the socket gives it.
type message struct {
	packet []byte
	from   netip.AddrPort // without a zone
	to     netip.Addr
	index  int
}

// addrPortOf is an address as the socket gives it, without its zone.
func addrPortOf(a net.Addr) netip.AddrPort {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := udp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// read waits for a packet. The packet is good until the next one is read.
func (s *socket) read(buf []byte) (message, error) {
	n, cm, from, err := s.p.ReadFrom(buf)
	if err != nil {
		return message{}, err
	}
	m := message{packet: buf[:n], from: addrPortOf(from)}
	if cm != nil {
		m.index = cm.IfIndex
		m.to, _ = netip.AddrFromSlice(cm.Dst.To4())
	}
	return m, nil
}

// send sends a packet from one of our addresses; index 0 leaves the way to the
// routes.
func (s *socket) send(b []byte, to netip.AddrPort, from netip.Addr, index int) error {
	cm := &ipv4.ControlMessage{Src: from.AsSlice(), IfIndex: index}
	_, err := s.p.WriteTo(b, cm, net.UDPAddrFromAddrPort(to))
	return err
}
