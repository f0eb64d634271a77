package tftp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// A guard is the socket that pin reads requests from. It passes on only read
// requests that are well-formed and within the caps, so that no request costs
// us a socket and a goroutine before we want it to.
//
// What is over a cap is dropped without a word: the client asks again in a
// second or so, and by then there may be room.
type guard struct {
	net.PacketConn
	log   *slog.Logger
	stats *counters

	maxSource, maxTotal int

	mu      sync.Mutex
	running map[netip.Addr]int
	total   int
	last    netip.Addr // of the request that was passed on last
}

func newGuard(conn net.PacketConn, o Options, stats *counters) *guard {
	return &guard{
		PacketConn: conn, log: o.Log, stats: stats,
		maxSource: o.MaxPerSource, maxTotal: o.MaxTransfers,
		running: make(map[netip.Addr]int),
	}
}

// ReadFrom returns the next request that may go on.
func (g *guard) ReadFrom(b []byte) (int, net.Addr, error) {
	buf := make([]byte, maxRequest+1)
	for {
		n, from, err := g.PacketConn.ReadFrom(buf)
		if err != nil {
			return 0, nil, err
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			return 0, nil, fmt.Errorf("address %v is not of UDP", from)
		}
		client := udp.AddrPort()
		req, err := parseRequest(buf[:n])
		if err != nil {
			g.refuse(err, from, client)
			continue
		}
		if client.Port() == 0 || !g.begin(client.Addr().Unmap()) {
			g.stats.capped.Add(1)
			g.log.Debug("tftp request dropped", "client", client, "file", fmt.Sprintf("%q", req.name))
			continue
		}
		return copy(b, req.bytes()), from, nil
	}
}

// errorWrite is an ERROR packet: access violation.
var errorWrite = append([]byte{0, 5, 0, 2}, "read only\x00"...)

// refuse counts what does not go on. Only a write request is answered, as its
// sender speaks TFTP and should stop; the answer is shorter than the request
// ever is, so nothing is amplified.
func (g *guard) refuse(err error, from net.Addr, client netip.AddrPort) {
	if !errors.Is(err, errWrite) {
		g.stats.malformed.Add(1)
		return
	}
	g.stats.writes.Add(1)
	if client.Port() != 0 {
		_, _ = g.WriteTo(errorWrite, from)
	}
}

// begin counts a transfer in, if it is within the caps.
func (g *guard) begin(client netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.maxTotal || g.running[client] >= g.maxSource {
		return false
	}
	g.total++
	g.running[client]++
	g.last = client
	return true
}

// end counts a transfer out.
func (g *guard) end(client netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.running[client]--; g.running[client] <= 0 {
		delete(g.running, client)
	}
}

// endLast counts out the request that was passed on last: pin could not begin
// its transfer, and no handler will end it. Pin takes one request at a time.
func (g *guard) endLast() {
	g.mu.Lock()
	last := g.last
	g.last = netip.Addr{}
	g.mu.Unlock()
	if last.IsValid() {
		g.end(last)
	}
}
