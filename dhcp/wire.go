package dhcp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A wire is how addresses are asked whether somebody is there. What answers is
// heard on a channel, together with all that others say: who reads it knows
// what was asked, and of whom.
type wire struct {
	arp   *os.File // a packet socket
	echo  *icmp.PacketConn
	heard chan voice
	id    uint16 // of our echo requests
}

// A question is how an address was asked, and what its answer has to say.
// Anybody can send echo replies in another's name: only who got the request
// knows the nonce of it.
type question struct {
	index int // of the interface where it was asked by ARP; 0: by ICMP echo
	nonce nonce
	sent  int // times
}

type nonce [16]byte

// A voice is somebody who says that an address is his.
type voice struct {
	addr  netip.Addr
	card  string // by ARP
	index int    // of the interface that it was heard on; 0: an echo reply
	nonce nonce
	seq   int
}

// answers reports whether that is the answer to a question.
func (v voice) answers(q question) bool {
	if v.index != 0 || q.index != 0 {
		return v.index == q.index
	}
	return subtle.ConstantTimeCompare(v.nonce[:], q.nonce[:]) == 1 && 0 < v.seq && v.seq <= q.sent
}

// openWire opens both sockets. They take CAP_NET_RAW.
func openWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ARP)))
	if err != nil {
		return nil, fmt.Errorf("open ARP socket: %w", err)
	}
	w := &wire{arp: os.NewFile(uintptr(fd), "arp"), heard: make(chan voice, 64), id: binary.BigEndian.Uint16(random(2))} //nolint:gosec // a descriptor
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

// random bytes are never missing: crypto/rand ends the program first.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
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
	return voice{addr: from, card: net.HardwareAddr(b[8:14]).String()}, from.IsValid()
}

// parseEcho returns who answers an echo request that has our id.
func parseEcho(b []byte, id uint16, from netip.Addr) (v voice, ok bool) {
	const head = 8
	if len(b) != head+len(v.nonce) || !isOurs(b, id) {
		return voice{}, false
	}
	return voice{addr: from, nonce: nonce(b[head:]), seq: int(binary.BigEndian.Uint16(b[6:]))}, from.IsValid()
}

// isOurs reports whether an ICMP message is a reply to an echo request of ours:
// whoever pings from this host gets others, which we hear too.
func isOurs(b []byte, id uint16) bool {
	return len(b) >= 8 && b[0] == byte(ipv4.ICMPTypeEchoReply) && b[1] == 0 && binary.BigEndian.Uint16(b[4:]) == id
}

// ask asks once. What cannot be sent is as if nobody had answered.
func (w *wire) ask(who netip.Addr, q question, card net.HardwareAddr) {
	if q.index == 0 {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(w.id), Seq: q.sent, Data: q.nonce[:]}}
		if raw, err := m.Marshal(nil); err == nil {
			_, _ = w.echo.WriteTo(raw, &net.IPAddr{IP: who.AsSlice()})
		}
		return
	}
	if len(card) != 6 {
		return
	}
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: q.index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	raw, err := w.arp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Write(func(fd uintptr) bool {
		_ = unix.Sendto(int(fd), arpProbe(card, who), unix.MSG_DONTWAIT, to) //nolint:gosec // a descriptor
		return true
	})
}

// listen hears answers until the wire is closed. Those that cannot be ours are
// counted as forged.
func (w *wire) listen(ctx context.Context, forged *atomic.Int64) {
	done := make(chan struct{})
	go func() { defer close(done); w.listenARP(ctx) }()
	b := make([]byte, 1500)
	for {
		n, from, err := w.echo.ReadFrom(b)
		if err != nil {
			break
		}
		ip, ok := from.(*net.IPAddr)
		if !ok {
			continue
		}
		v, ok := parseEcho(b[:n], w.id, addrOf(ip.IP.To4()))
		switch {
		case ok:
			w.tell(ctx, v)
		case isOurs(b[:n], w.id):
			forged.Add(1)
		}
	}
	<-done
}

// listenARP hears who says that an address is his, by a request as by a reply
// (RFC 5227 §2.1.1), and on which interface.
func (w *wire) listenARP(ctx context.Context) {
	raw, err := w.arp.SyscallConn()
	if err != nil {
		return
	}
	b := make([]byte, 1500)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) //nolint:gosec // a descriptor
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return // it was closed
		}
		at, ok := from.(*unix.SockaddrLinklayer)
		if failed != nil || !ok || at.Pkttype == unix.PACKET_OUTGOING {
			continue // an interface that goes away says so once
		}
		if v, ok := parseARP(b[:n]); ok {
			v.index = at.Ifindex
			w.tell(ctx, v)
		}
	}
}

// tell hands on what was heard. ARP is chatty: who does not listen misses it.
func (w *wire) tell(ctx context.Context, v voice) {
	select {
	case w.heard <- v:
	case <-ctx.Done():
	}
}
