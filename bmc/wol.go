package bmc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/rackstage/provision/fleet"
)

// A wakeLine sends magic packets. Nobody answers them: whether the machine wakes
// shows by what it does then, which is not ours to see.
type wakeLine struct {
	c *Controller
	t Target
}

func (c *Controller) openWake(t Target) (*wakeLine, error) {
	if len(t.Wake.MACs) == 0 || len(t.Wake.To) == 0 {
		return nil, fmt.Errorf("%w: no subnet of its is known to send a magic packet to", ErrNoRoute)
	}
	return &wakeLine{c: c, t: t}, nil
}

// magic is six times 0xff, and 16 times the address of a card.
func magic(mac net.HardwareAddr) []byte {
	return append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...)
}

func (l *wakeLine) power(context.Context) (fleet.PowerState, error) { return fleet.PowerIsUnknown, nil }

// order sends a packet for each card to each broadcast address: which of them
// listens while the machine is off, nobody knows.
func (l *wakeLine) order(ctx context.Context, a action) error {
	if a != turnOn {
		return fmt.Errorf("%w: power %s by a magic packet", ErrUnsupported, a)
	}
	conn, err := listenBroadcast(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	sent := 0
	for _, text := range l.t.Wake.MACs {
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 {
			continue // InfiniBand has no magic packets
		}
		for _, to := range l.t.Wake.To {
			if _, err := conn.WriteTo(magic(mac), net.UDPAddrFromAddrPort(to)); err != nil {
				errs = append(errs, err)
				continue
			}
			sent++
		}
	}
	if sent == 0 {
		return errors.Join(append(errs, ErrNoRoute)...)
	}
	return nil
}

// listenBroadcast opens a socket that may send to broadcast addresses.
func listenBroadcast(ctx context.Context) (net.PacketConn, error) {
	conf := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := conf.ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return conn, nil
}

func (l *wakeLine) setBoot(context.Context, Boot) error {
	return fmt.Errorf("%w: a magic packet names no boot device", ErrUnsupported)
}

func (l *wakeLine) boots(context.Context, Boot) (bool, error) { return false, nil }

func (l *wakeLine) hangUp(context.Context) {}

// wakePorts are where magic packets go: cards do not look at the port, but
// routers and people do.
const wakePort = 9

// Broadcast returns where magic packets for machines of a subnet go: all of it,
// which its router may let through, and whatever wire we are on ourselves.
func Broadcast(subnet netip.Prefix) []netip.AddrPort {
	to := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), wakePort)}
	if !subnet.IsValid() || !subnet.Addr().Is4() {
		return to
	}
	a := subnet.Masked().Addr().As4()
	host := uint32(1)<<(32-subnet.Bits()) - 1
	for i := range a {
		a[i] |= byte(host >> (24 - 8*i))
	}
	return append([]netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4(a), wakePort)}, to...)
}
