package ramdisk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// A Lease is what a DHCP server gave us.
type Lease struct {
	Iface   string
	MAC     net.HardwareAddr
	Prefix  netip.Prefix // address and mask
	Router  netip.Addr   // invalid when there is none
	Server  netip.Addr   // that leased it
	Time    time.Duration
	renewal time.Duration // T1 (RFC 2131 §4.4.5)
	rebind  time.Duration // T2

	duid []byte // of the DHCPv6 server
	own  bool   // of our kernel's making, out of a router's prefix
}

// A dhcpClient speaks DHCP on one card. It uses an ordinary UDP socket, bound
// to the card: as long as there is no address, it asks for broadcast answers.
type dhcpClient struct {
	iface *net.Interface
	conn  *net.UDPConn
	to    *net.UDPAddr // of servers, when not known better
}

func newDHCPClient(ctx context.Context, iface *net.Interface) (*dhcpClient, error) {
	lc := net.ListenConfig{Control: bindTo(iface.Name)}
	conn, err := lc.ListenPacket(ctx, "udp4", ":68")
	if err != nil {
		return nil, fmt.Errorf("open DHCP socket on %s: %w", iface.Name, err)
	}
	return &dhcpClient{iface, conn.(*net.UDPConn), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}}, nil
}

func (c *dhcpClient) close() { _ = c.conn.Close() }

// modifiers are the options of every message. The client identifier is the
// one that iPXE sends, so that we get the address that it had.
func (c *dhcpClient) modifiers(more ...dhcpv4.Modifier) []dhcpv4.Modifier {
	return append([]dhcpv4.Modifier{
		dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, c.iface.HardwareAddr...))),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("provision-agent")),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1472)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionIPAddressLeaseTime,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionServerIdentifier),
	}, more...)
}

// acquire gets a lease: DISCOVER, OFFER, REQUEST, ACK. It tries until ctx is
// done.
func (c *dhcpClient) acquire(ctx context.Context) (Lease, error) {
	for {
		discover, err := dhcpv4.NewDiscovery(c.iface.HardwareAddr, c.modifiers()...)
		if err != nil {
			return Lease{}, fmt.Errorf("make DISCOVER: %w", err)
		}
		offer, err := c.exchange(ctx, discover, c.to, 16, dhcpv4.MessageTypeOffer)
		if err != nil {
			return Lease{}, err
		}
		request, err := dhcpv4.NewRequestFromOffer(offer, c.modifiers()...)
		if err != nil {
			return Lease{}, fmt.Errorf("make REQUEST: %w", err)
		}
		ack, err := c.exchange(ctx, request, c.to, 3, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
		if ctx.Err() != nil {
			return Lease{}, err
		}
		if err != nil || ack.MessageType() == dhcpv4.MessageTypeNak {
			continue
		}
		if lease, err := c.lease(ack); err == nil {
			return lease, nil
		}
	}
}

var errNak = errors.New("the DHCP server took the address back")

// renew extends a lease: at its own server, or at any when that is silent.
func (c *dhcpClient) renew(ctx context.Context, l Lease, anyServer bool) (Lease, error) {
	to := &net.UDPAddr{IP: l.Server.AsSlice(), Port: dhcpv4.ServerPort}
	if anyServer {
		to = c.to
	}
	request, err := dhcpv4.New(c.modifiers(
		dhcpv4.WithHwAddr(c.iface.HardwareAddr),
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithClientIP(l.Prefix.Addr().AsSlice()),
		dhcpv4.WithBroadcast(false), // we have an address now
	)...)
	if err != nil {
		return Lease{}, fmt.Errorf("make REQUEST: %w", err)
	}
	ack, err := c.exchange(ctx, request, to, 4, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
	if err != nil {
		return Lease{}, err
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return Lease{}, errNak
	}
	return c.lease(ack)
}

// exchange sends a message until one of the wanted answers comes: after one
// second, two, four, up to eight.
func (c *dhcpClient) exchange(ctx context.Context, m *dhcpv4.DHCPv4, to *net.UDPAddr, tries int, want ...dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	wait := time.Second
	begun := time.Now()
	for range tries {
		m.NumSeconds = uint16(min(time.Since(begun).Seconds(), 65535))
		// A card that just came up may refuse to send; the next try will do.
		_, _ = c.conn.WriteToUDP(m.ToBytes(), to)
		answer, err := c.receive(ctx, m, time.Now().Add(wait), want)
		if err == nil || ctx.Err() != nil {
			return answer, errors.Join(err, ctx.Err())
		}
		wait = min(2*wait, 8*time.Second)
	}
	return nil, fmt.Errorf("no answer to DHCP %s on %s", m.MessageType(), c.iface.Name)
}

func (c *dhcpClient) receive(ctx context.Context, m *dhcpv4.DHCPv4, until time.Time, want []dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
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
		answer, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || !isAnswer(answer, m) {
			continue
		}
		for _, kind := range want {
			if answer.MessageType() == kind {
				return answer, nil
			}
		}
	}
}

func isAnswer(answer, question *dhcpv4.DHCPv4) bool {
	return answer.OpCode == dhcpv4.OpcodeBootReply &&
		answer.TransactionID == question.TransactionID &&
		answer.ClientHWAddr.String() == question.ClientHWAddr.String()
}

// lease reads an ACK. What a server says is not believed blindly.
func (c *dhcpClient) lease(ack *dhcpv4.DHCPv4) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return Lease{}, fmt.Errorf("the DHCP server offers the address %v", ack.YourIPAddr)
	}
	bits, size := ack.SubnetMask().Size()
	if size != 32 || bits == 0 {
		bits = 32
	}
	l := Lease{Iface: c.iface.Name, MAC: c.iface.HardwareAddr, Prefix: netip.PrefixFrom(addr, bits)}
	if routers := ack.Router(); len(routers) > 0 {
		l.Router, _ = netip.AddrFromSlice(routers[0].To4())
	}
	l.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	l.Time = max(ack.IPAddressLeaseTime(time.Hour), time.Minute)
	l.renewal = within(ack.IPAddressRenewalTime(l.Time/2), l.Time/2, l.Time)
	l.rebind = within(ack.IPAddressRebindingTime(l.Time*7/8), l.Time*7/8, l.Time)
	return l, nil
}

func within(d, otherwise, limit time.Duration) time.Duration {
	if d <= 0 || d >= limit {
		return otherwise
	}
	return d
}

// bindTo binds a socket to one card, before that has an address.
func bindTo(iface string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var trouble error
		err := c.Control(func(fd uintptr) {
			trouble = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), iface),
			)
		})
		return errors.Join(err, trouble)
	}
}
