package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/net/ipv6"
)

// allAgents is where machines send DHCPv6: All_DHCP_Relay_Agents_and_Servers.
var allAgents = net.UDPAddr{IP: net.ParseIP("ff02::1:2")}

// A socket6 is UDP 547 on all interfaces: machines write to a group on theirs,
// and the server to our address there, by whichever way the routes say.
type socket6 struct {
	conn   *net.UDPConn
	p      *ipv6.PacketConn
	joined map[int]bool // ports by their index, on which machines are heard
	ended  atomic.Bool  // it was served, and is no more
}

func listenDHCP6(ctx context.Context) (*socket6, error) {
	conn, err := listenUDP(ctx, "udp6", serverPort6)
	if err != nil {
		return nil, err
	}
	s := &socket6{conn: conn, p: ipv6.NewPacketConn(conn), joined: map[int]bool{}}
	if err := s.p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare UDP %d: %w", serverPort6, err), conn.Close())
	}
	return s, nil
}

// hear hears machines on these ports from now on.
func (s *socket6) hear(ports []port) (err error) {
	for _, p := range ports {
		if s.joined[p.index] {
			continue
		}
		if failed := s.p.JoinGroup(&net.Interface{Index: p.index}, &allAgents); failed != nil {
			err = errors.Join(err, fmt.Errorf("hear DHCPv6 on %s: %w", p.name, failed))
			continue
		}
		s.joined[p.index] = true
	}
	return err
}

// read waits for a packet. The packet is good until the next one is read.
func (s *socket6) read(buf []byte) (message, error) {
	n, cm, from, err := s.p.ReadFrom(buf)
	if err != nil {
		return message{}, err
	}
	m := message{packet: buf[:n], from: addrPortOf(from)}
	if cm != nil {
		m.index = cm.IfIndex
		m.to, _ = netip.AddrFromSlice(cm.Dst)
	}
	return m, nil
}

// send sends a packet. Without an address of ours to come from, or an interface,
// the routes decide.
func (s *socket6) send(b []byte, to netip.AddrPort, from netip.Addr, index int) error {
	cm := &ipv6.ControlMessage{IfIndex: index}
	if from.IsValid() {
		cm.Src = from.AsSlice()
	}
	_, err := s.p.WriteTo(b, cm, net.UDPAddrFromAddrPort(to))
	return err
}
