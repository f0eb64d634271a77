package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/fleet"
)

// advertisement is a Router Advertisement (RFC 4861 §4.2) that says as little
// as one can: hop limit 64, no prefix, no DHCPv6, and a router lifetime of 0,
// which means "I am not your router".
//
// It is there for iPXE, which asks for routers on every card and waits 13 to
// 16 seconds when nobody answers, although it got its IPv4 address long ago.
var advertisement = icmp.Message{
	Type: ipv6.ICMPTypeRouterAdvertisement,
	Body: &icmp.RawBody{Data: []byte{64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
}

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// advertise answers Router Solicitations on interfaces with a subnet that we
// serve. It is a courtesy: a host without IPv6 goes without.
func (s *Server) advertise(ctx context.Context) error {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		s.o.Log.WarnContext(ctx, "router solicitations not answered, iPXE will wait for them", "err", err)
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	p := conn.IPv6PacketConn()
	if err := prepare(p); err != nil {
		return err
	}
	raw, err := advertisement.Marshal(nil) // the kernel fills in the checksum
	if err != nil {
		return err
	}
	joined := map[int]bool{}
	buf := make([]byte, 1500)
	for {
		s.joinRouters(p, joined)
		if err := p.SetReadDeadline(time.Now().Add(refreshEvery)); err != nil && ctx.Err() == nil {
			return err
		}
		_, cm, from, err := p.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("read router solicitations: %w", err)
		}
		// A packet from another network has lost at least one hop (RFC 4861 §6.1.1).
		if cm == nil || cm.HopLimit != 255 || !joined[cm.IfIndex] {
			continue
		}
		if _, err := p.WriteTo(raw, &ipv6.ControlMessage{HopLimit: 255, IfIndex: cm.IfIndex}, solicitor(from)); err != nil {
			s.stats.sendError.Add(1)
		}
	}
}

func prepare(p *ipv6.PacketConn) error {
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	return errors.Join(
		p.SetICMPFilter(&only),
		p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
	)
}

// solicitor is where the answer goes: to who asked, or to everybody when it
// has no address yet.
func solicitor(from net.Addr) net.Addr {
	if ip, ok := from.(*net.IPAddr); ok && !ip.IP.IsUnspecified() {
		return ip
	}
	return &net.IPAddr{IP: allNodes.AsSlice()}
}

// joinRouters listens on the interfaces that carry a subnet which we serve,
// and leaves those that no longer do. Where we only observe, or stand beside
// another server, we say nothing at all.
func (s *Server) joinRouters(p *ipv6.PacketConn, joined map[int]bool) {
	serving := map[int]bool{}
	for index, addrs := range s.ifaces.byIndex() {
		serving[index] = slices.ContainsFunc(addrs, func(p netip.Prefix) bool {
			n, ok := s.book.subnetOf(p.Addr())
			return ok && (n.Mode == fleet.Full || n.Mode == fleet.Reserved)
		})
	}
	group := &net.IPAddr{IP: allRouters.AsSlice()}
	for index, ours := range serving {
		if ours && !joined[index] && p.JoinGroup(&net.Interface{Index: index}, group) == nil {
			joined[index] = true
		}
	}
	for index := range joined {
		if !serving[index] {
			_ = p.LeaveGroup(&net.Interface{Index: index}, group) // it may be gone
			delete(joined, index)
		}
	}
}
