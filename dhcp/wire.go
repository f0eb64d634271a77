package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A wire is how addresses are asked whether somebody is there. What answers is
// heard on a channel, together with all that others say: who reads it knows
// what was asked.
type wire struct {
	arp   *os.File // a packet socket
	echo  *icmp.PacketConn
	heard chan voice
	id    int
}

// openWire opens both sockets. They take CAP_NET_RAW.
func openWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ARP)))
	if err != nil {
		return nil, fmt.Errorf("open ARP socket: %w", err)
	}
	w := &wire{arp: os.NewFile(uintptr(fd), "arp"), heard: make(chan voice, 64), id: os.Getpid() & 0xffff} //nolint:gosec // a descriptor
	if w.echo, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); err != nil {
		return nil, errors.Join(fmt.Errorf("open ICMP socket: %w", err), w.arp.Close())
	}
	var only ipv4.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv4.ICMPTypeEchoReply)
	if err := w.echo.IPv4PacketConn().SetICMPFilter(&only); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *wire) close() error { return errors.Join(w.arp.Close(), w.echo.Close()) }

func networkOrder(n uint16) uint16 { return n<<8 | n>>8 }

const (
	arpLength  = 28
	arpRequest = 1
)

// arpProbe asks who has an address, as RFC 5227 §2.1 does: without an address
// of our own, so that nobody learns anything from it.
func arpProbe(card net.HardwareAddr, who netip.Addr) []byte {
	b := make([]byte, 0, arpLength)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, arpRequest) // Ethernet, IPv4, their lengths
	b = append(b, card...)
	b = append(b, make([]byte, 4+6)...) // sender's address, target's card
	return append(b, who.AsSlice()...)
}

// parseARP returns who says that an address is his.
func parseARP(b []byte) (v voice, ok bool) {
	if len(b) < arpLength || binary.BigEndian.Uint64(b)>>16 != 0x000108000604 {
		return voice{}, false
	}
	from := addrOf(b[14:18])
	return voice{from, net.HardwareAddr(b[8:14]).String()}, from.IsValid()
}

// ask asks once. What cannot be sent is as if nobody had answered.
func (w *wire) ask(who netip.Addr, index int, card net.HardwareAddr, near bool) {
	if !near {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: w.id, Seq: 1, Data: []byte("provision")}}
		if raw, err := m.Marshal(nil); err == nil {
			_, _ = w.echo.WriteTo(raw, &net.IPAddr{IP: who.AsSlice()})
		}
		return
	}
	if len(card) != 6 {
		return
	}
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	raw, err := w.arp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Write(func(fd uintptr) bool {
		_ = unix.Sendto(int(fd), arpProbe(card, who), unix.MSG_DONTWAIT, to) //nolint:gosec // a descriptor
		return true
	})
}

// listen hears answers until the wire is closed.
func (w *wire) listen(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, err := w.arp.Read(b)
			if err != nil {
				return
			}
			if v, ok := parseARP(b[:n]); ok {
				w.tell(ctx, v)
			}
		}
	}()
	b := make([]byte, 1500)
	for {
		_, from, err := w.echo.ReadFrom(b)
		if err != nil {
			break
		}
		if ip, ok := from.(*net.IPAddr); ok {
			w.tell(ctx, voice{addr: addrOf(ip.IP.To4())})
		}
	}
	<-done
}

// tell hands on what was heard. ARP is chatty: who does not listen misses it.
func (w *wire) tell(ctx context.Context, v voice) {
	select {
	case w.heard <- v:
	case <-ctx.Done():
	}
}
