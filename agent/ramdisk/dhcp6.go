package ramdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rackstage/provision/agent/retry"
)

// A dhcp6Client speaks DHCPv6 on one card, from the link-local address that
// the kernel gave to it. Who it is follows from the card, so that the server
// finds the machine that it knows from before.
type dhcp6Client struct {
	iface *net.Interface
	conn  *net.UDPConn
	to    *net.UDPAddr // all servers of the link
}

// ownPatience is how long we wait for a DHCPv6 server where a router lets us
// make an address of our own.
const ownPatience = 5 * time.Second

func newDHCP6Client(ctx context.Context, iface *net.Interface) (*dhcp6Client, error) {
	lc := net.ListenConfig{Control: bindTo(iface.Name)}
	conn, err := lc.ListenPacket(ctx, "udp6", fmt.Sprintf("[::]:%d", dhcpv6.DefaultClientPort))
	if err != nil {
		return nil, fmt.Errorf("open DHCPv6 socket on %s: %w", iface.Name, err)
	}
	to := &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: dhcpv6.DefaultServerPort, Zone: iface.Name}
	return &dhcp6Client{iface, conn.(*net.UDPConn), to}, nil
}

func (c *dhcp6Client) close() { _ = c.conn.Close() }

// message makes a message about our one association.
func (c *dhcp6Client) message(kind dhcpv6.MessageType, server []byte, addr netip.Addr) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", kind, err)
	}
	m.MessageType = kind
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: c.iface.HardwareAddr}))
	if len(server) > 0 {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: server})
	}
	m.AddOption(dhcpv6.OptElapsedTime(0))
	m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList))
	ia := &dhcpv6.OptIANA{IaId: [4]byte(c.iface.HardwareAddr[2:6])}
	if addr.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice()})
	}
	m.AddOption(ia)
	if kind == dhcpv6.MessageTypeSolicit {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	return m, nil
}

// acquire gets a lease: SOLICIT and REPLY, or with a server that knows no
// rapid commit ADVERTISE, REQUEST and REPLY. Where nobody answers and a router
// lets us make an address of our own, it is that. It tries until ctx is done.
func (c *dhcp6Client) acquire(ctx context.Context) (Lease, error) {
	begun := time.Now()
	for {
		answer, err := c.ask(ctx, dhcpv6.MessageTypeSolicit, nil, netip.Addr{}, 1)
		if err == nil && answer.MessageType == dhcpv6.MessageTypeAdvertise {
			if offer, err := c.lease(answer); err == nil {
				answer, err = c.ask(ctx, dhcpv6.MessageTypeRequest, offer.duid, offer.Prefix.Addr(), 3)
				if err != nil {
					continue
				}
			}
		}
		if err == nil && answer.MessageType == dhcpv6.MessageTypeReply {
			if lease, err := c.lease(answer); err == nil {
				return lease, nil
			}
		}
		if answered := err == nil; answered {
			_ = retry.Pause(ctx, time.Second) // it has nothing for us now
		}
		if ctx.Err() != nil {
			return Lease{}, fmt.Errorf("no answer to DHCPv6 on %s: %w", c.iface.Name, ctx.Err())
		}
		if time.Since(begun) > ownPatience {
			if p, ok := ownAddress(c.iface); ok {
				return Lease{Iface: c.iface.Name, MAC: c.iface.HardwareAddr, Prefix: p, own: true}, nil
			}
		}
	}
}

// renew extends a lease: at its own server, or at any when that is silent.
func (c *dhcp6Client) renew(ctx context.Context, l Lease, anyServer bool) (Lease, error) {
	kind, server := dhcpv6.MessageTypeRenew, l.duid
	if anyServer {
		kind, server = dhcpv6.MessageTypeRebind, nil
	}
	answer, err := c.ask(ctx, kind, server, l.Prefix.Addr(), 4)
	if err != nil {
		return Lease{}, err
	}
	next, err := c.lease(answer)
	if err != nil {
		return Lease{}, errNak
	}
	return next, nil
}

// ask sends a message until an answer comes: after one second, two, four, up
// to eight.
func (c *dhcp6Client) ask(ctx context.Context, kind dhcpv6.MessageType, server []byte, addr netip.Addr, tries int) (*dhcpv6.Message, error) {
	m, err := c.message(kind, server, addr)
	if err != nil {
		return nil, err
	}
	wait, begun := time.Second, time.Now()
	for range tries {
		m.UpdateOption(dhcpv6.OptElapsedTime(min(time.Since(begun), 655*time.Second)))
		// A card that just came up may refuse to send; the next try will do.
		_, _ = c.conn.WriteToUDP(m.ToBytes(), c.to)
		answer, err := c.receive(ctx, m, time.Now().Add(wait))
		if err == nil || ctx.Err() != nil {
			return answer, errors.Join(err, ctx.Err())
		}
		wait = min(2*wait, 8*time.Second)
	}
	return nil, fmt.Errorf("no answer to DHCPv6 %s on %s", kind, c.iface.Name)
}

func (c *dhcp6Client) receive(ctx context.Context, m *dhcpv6.Message, until time.Time) (*dhcpv6.Message, error) {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, _, err := c.conn.ReadFromUDP(buf)
		if err != nil {
			return nil, err
		}
		answer, err := dhcpv6.MessageFromBytes(buf[:n])
		if err == nil && isAnswer6(answer, m) {
			return answer, nil
		}
	}
}

// isAnswer6 reports whether a message is for us and answers what we asked: an
// ADVERTISE to a SOLICIT only, a REPLY to a SOLICIT only as rapid commit.
func isAnswer6(answer, question *dhcpv6.Message) bool {
	ours, theirs := question.Options.ClientID(), answer.Options.ClientID()
	if answer.TransactionID != question.TransactionID || theirs == nil || !bytes.Equal(ours.ToBytes(), theirs.ToBytes()) {
		return false
	}
	solicited := question.MessageType == dhcpv6.MessageTypeSolicit
	switch answer.MessageType {
	case dhcpv6.MessageTypeAdvertise:
		return solicited
	case dhcpv6.MessageTypeReply:
		return !solicited || answer.GetOneOption(dhcpv6.OptionRapidCommit) != nil
	default:
		return false
	}
}

// lease reads an answer. What a server says is not believed blindly.
func (c *dhcp6Client) lease(m *dhcpv6.Message) (Lease, error) {
	server := m.Options.ServerID()
	if server == nil {
		return Lease{}, errors.New("the DHCPv6 server does not say who it is")
	}
	for _, ia := range m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			addr, ok := netip.AddrFromSlice(a.IPv6Addr)
			if !ok || !addr.Is6() || addr.Is4In6() || !addr.IsGlobalUnicast() || a.ValidLifetime == 0 {
				continue
			}
			l := Lease{Iface: c.iface.Name, MAC: c.iface.HardwareAddr, Prefix: netip.PrefixFrom(addr, 128), duid: server.ToBytes()}
			l.Time = max(a.ValidLifetime, time.Minute)
			l.renewal = within(ia.T1, l.Time/2, l.Time)
			l.rebind = within(ia.T2, l.Time*7/8, l.Time)
			l.Server = netip.IPv6LinkLocalAllNodes() // who it is says the DUID; asked is the link
			return l, nil
		}
	}
	return Lease{}, errors.New("the DHCPv6 server has no address for us")
}
