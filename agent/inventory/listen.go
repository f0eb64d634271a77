package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
)

// Neighbours listens for LLDP. Switches speak every 30 seconds, so that
// nobody waits for them: what was heard is in the inventory, what comes later
// is told by Changed. A nil Neighbours has heard nothing.
type Neighbours struct {
	mu      sync.Mutex
	heard   map[string]api.LLDP // by name of the card
	changed chan struct{}
}

// NewNeighbours returns one that has heard nothing yet.
func NewNeighbours() *Neighbours {
	return &Neighbours{heard: map[string]api.LLDP{}, changed: make(chan struct{}, 1)}
}

// All returns who is on the other end of each card.
func (n *Neighbours) All() map[string]api.LLDP {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.heard)
}

// Changed gets a value when somebody new was heard.
func (n *Neighbours) Changed() <-chan struct{} { return n.changed }

const (
	etherLLDP = 0x88cc
	mostCards = 128 // more than that is somebody's joke
	lookEvery = 2 * time.Second
)

// Listen listens on all cards until ctx is done. Cards that come up later are
// heard too.
func (n *Neighbours) Listen(ctx context.Context) error {
	proto := htons(etherLLDP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return fmt.Errorf("listen for LLDP: %w", err)
	}
	f := os.NewFile(uintptr(fd), "lldp") // its reads end when it is closed
	defer f.Close()                      // nothing was written
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("listen for LLDP: %w", err)
	}
	go subscribe(ctx, conn)
	buf := make([]byte, 2048)
	for {
		var size int
		var from unix.Sockaddr
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			size, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err := errors.Join(err, rerr); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR) {
				continue // a card went down; the others go on
			}
			return fmt.Errorf("listen for LLDP: %w", err)
		}
		n.take(from, buf[:size])
	}
}

// lldpGroup is the address that LLDP is sent to: the nearest bridge.
var lldpGroup = [8]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}

// subscribe makes the cards let LLDP through, those that come later too.
func subscribe(ctx context.Context, conn syscall.RawConn) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	done := map[int]bool{}
	for {
		cards, _ := net.Interfaces() // the next look will do
		for _, c := range cards {
			if done[c.Index] || c.Flags&net.FlagLoopback != 0 {
				continue
			}
			done[c.Index] = true
			group := &unix.PacketMreq{Ifindex: int32(c.Index), Type: unix.PACKET_MR_MULTICAST, Alen: 6, Address: lldpGroup} // an index
			_ = conn.Control(func(fd uintptr) {
				_ = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, group) // a card that cannot hears nobody
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take keeps a neighbour, unless what came makes no sense.
func (n *Neighbours) take(from unix.Sockaddr, b []byte) {
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
		return
	}
	who, err := parseLLDP(b)
	if err != nil {
		return
	}
	card, err := net.InterfaceByIndex(ll.Ifindex)
	if err != nil {
		return
	}
	n.keep(card.Name, who)
}

func (n *Neighbours) keep(card string, who api.LLDP) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard[card] == who || (len(n.heard) >= mostCards && n.heard[card] == (api.LLDP{})) {
		return
	}
	n.heard[card] = who
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
