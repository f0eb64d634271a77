package main

import (
	"net"
	"net/netip"
	"time"

	"github.com/rackstage/provision/internal/mmsg"
)

var siegeRequest = tftpRequest(siegeFile, "tsize", "0", "blksize", "1428", "windowsize", "64")

// An address may have eight transfers at once. Each of these asks for one more.
const (
	halfOpenOfOne = 8
	halfOpenAsked = halfOpenOfOne + 1
)

// halfOpenBatch is how many requests come every 10 ms: again and again the same
// ones, as machines ask that hear nothing.
const halfOpenBatch = 64

// halfOpen sends requests from many addresses, and says nothing to the answers.
type halfOpen struct {
	siegeArgs
	ports []*mmsg.Conn
	out   *mmsg.Batch
	next  *time.Ticker
}

func (s *siege) newHalfOpen() (*halfOpen, error) {
	h := &halfOpen{siegeArgs: s.siegeArgs, out: mmsg.NewWriter(halfOpenBatch), next: time.NewTicker(10 * time.Millisecond)}
	for range halfOpenAsked {
		udp, err := s.listen(netip.IPv4Unspecified())
		if err != nil {
			return nil, err
		}
		conn, err := mmsg.New(udp, true)
		if err != nil {
			return nil, err
		}
		h.ports = append(h.ports, conn)
	}
	return h, nil
}

// listen opens a socket that is closed when the siege is over.
func (s *siege) listen(at netip.Addr) (*net.UDPConn, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: at.AsSlice()})
	if err == nil {
		s.closers = append(s.closers, udp)
	}
	return udp, err
}

// send has all addresses ask from the first port, then from the second, and so
// on.
func (h *halfOpen) send(n uint32) {
	clients := uint32(h.HalfOpen / halfOpenOfOne) //nolint:gosec // a count
	h.out.Add(siegeRequest, netip.AddrPortFrom(h.Server, 69), hallAddr(siegeFirst+n%clients), 0)
	if !h.out.Full() && n%clients < clients-1 {
		return
	}
	<-h.next.C
	_, _ = h.out.Write(h.ports[n/clients%halfOpenAsked])
}

// An ackStorm has a transfer, whose every block it acknowledges a thousand
// times: itself, and at the same port as a stranger; and a stranger sends ACKs of
// no transfer.
type ackStorm struct {
	siegeArgs
	siege          *siege
	held, stranger *net.UDPConn
	to             netip.AddrPort // where the transfer's ACKs go
}

func (s *siege) newACKStorm() (*ackStorm, error) {
	a := &ackStorm{siegeArgs: s.siegeArgs, siege: s}
	var err error
	if a.stranger, err = s.listen(siegeStranger); err != nil {
		return nil, err
	}
	if a.held, err = s.listen(siegeStormer); err != nil {
		return nil, err
	}
	return a, a.ask()
}

// ask begins the transfer.
func (a *ackStorm) ask() error {
	if _, err := a.held.WriteToUDPAddrPort(siegeRequest, netip.AddrPortFrom(a.Server, 69)); err != nil {
		return err
	}
	_ = a.held.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, from, err := a.held.ReadFromUDPAddrPort(make([]byte, 1500))
	a.to = from
	return err
}

func (a *ackStorm) send(n uint32) {
	block := n >> 10
	ack := []byte{0, 4, byte(block >> 8), byte(block)}
	switch n % 4 {
	case 0, 1:
		_, _ = a.held.WriteToUDPAddrPort(ack, a.to)
	case 2:
		_, _ = a.stranger.WriteToUDPAddrPort(ack, a.to)
	case 3:
		_, _ = a.stranger.WriteToUDPAddrPort(ack, netip.AddrPortFrom(a.Server, 69))
	}
}
