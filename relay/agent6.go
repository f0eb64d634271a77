package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/sockbuf"
)

// allAgents is where machines send DHCPv6: All_DHCP_Relay_Agents_and_Servers.
var allAgents = net.UDPAddr{IP: net.ParseIP("ff02::1:2")}

// A socket6 is UDP 547 on all interfaces: machines write to a group on theirs,
// and the server to our address there, by whichever way the routes say.
type socket6 struct {
	conn   *net.UDPConn
	p      *ipv6.PacketConn
	joined map[int]bool // ports by their index, on which machines are heard
}

func listenDHCP6(ctx context.Context) (*socket6, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp6", fmt.Sprintf("[::]:%d", serverPort6))
	if err != nil {
		return nil, taken("udp", serverPort6, err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.New("listen for DHCPv6: no UDP socket"), pc.Close())
	}
	s := &socket6{conn: conn, p: ipv6.NewPacketConn(conn), joined: map[int]bool{}}
	err = errors.Join(s.p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true), sockbuf.Grow(conn))
	if err != nil {
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

// A message6 is a packet as the socket gives it.
type message6 struct {
	packet packet6
	from   netip.AddrPort // without a zone
	index  int
}

// read waits for a packet. The packet is good until the next one is read.
func (s *socket6) read(buf []byte) (message6, error) {
	n, cm, from, err := s.p.ReadFrom(buf)
	if err != nil {
		return message6{}, err
	}
	m := message6{packet: buf[:n]}
	if udp, ok := from.(*net.UDPAddr); ok {
		ap := udp.AddrPort()
		m.from = netip.AddrPortFrom(ap.Addr().WithZone(""), ap.Port())
	}
	if cm != nil {
		m.index = cm.IfIndex
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

// relayDHCP6 carries DHCPv6 packets until ctx is done, also while the server is
// away: its port for DHCP may be there when its port for us is not.
func (r *Relay) relayDHCP6(ctx context.Context, s *socket6) error {
	if s == nil {
		return nil // the server has no IPv6 address
	}
	buf := make([]byte, 2048)
	for {
		m, err := s.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // we closed it
		case err != nil:
			return fmt.Errorf("read DHCPv6 packets: %w", err)
		}
		r.pass6(s, m)
	}
}

func (r *Relay) pass6(s *socket6, m message6) {
	if len(m.packet) > 0 && m.packet.kind() == typeAnswer6 {
		if d, ok := r.rules6.down(m.packet, m.from, r.portByLink); ok {
			r.count6(s.send(d.packet, d.to, netip.Addr{}, d.port.index))
		}
		return
	}
	from, ours := r.portByIndex(m.index)
	link, served := r.linkOf(from)
	if !ours || !served {
		return // on the server's side, or on a network that nobody would answer for
	}
	if out, ok := r.rules6.up(m.packet, m.from.Addr(), from, link, r.isOurs6); ok && r.count6(s.send(out, r.rules6.server, link, 0)) {
		r.stats.relayed.Add(1)
	}
}

func (r *Relay) count6(err error) (sent bool) {
	if err != nil {
		r.stats.unsent.Add(1)
		r.o.Log.Debug("dhcpv6 packet not passed on", "err", err)
	}
	return err == nil
}

// linkOf returns our address on the IPv6 subnet that is served on a port.
func (r *Relay) linkOf(p port) (netip.Addr, bool) {
	k := r.known.Load()
	for _, six := range p.six {
		if k != nil && k.serves6(six.Addr()) {
			return six.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func (r *Relay) portByLink(a netip.Addr) (port, bool) {
	for _, p := range r.ports() {
		if link, ok := r.linkOf(p); ok && link == a {
			return p, true
		}
	}
	return port{}, false
}

func (r *Relay) isOurs6(a netip.Addr) bool {
	for _, p := range r.ports() {
		for _, six := range p.six {
			if six.Addr() == a {
				return true
			}
		}
	}
	return false
}

// serves6 reports whether the server gives out addresses on the IPv6 subnet of
// an address.
func (k *knowledge) serves6(a netip.Addr) bool {
	for _, n := range k.six {
		if n.CIDR.Contains(a) {
			return true
		}
	}
	return false
}

// advertised are the IPv6 subnets that we advertise as the server would: which
// prefix it is, and that DHCPv6 has the addresses.
func (r *Relay) advertised() []fleet.Subnet {
	if k := r.known.Load(); k != nil {
		return k.six
	}
	return nil
}
