package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rackstage/provision/internal/mmsg"
)

// fetchArgs say what TFTP clients do. Each has an address of its own; they
// share a port, and here a socket, so that the load costs less than a server.
type fetchArgs struct {
	Server      netip.Addr
	File        string
	Size        int // of the file, whose bytes are those of tftpBytes
	Block       int
	Window      int // asked for when above 1
	Clients     int // at once
	Transfers   int // in all; 0: as many as go into For
	For         time.Duration
	FirstClient int // number of the first client
}

// fetched is what came of it.
type fetched struct {
	Done, Failed, Wrong int
	Granted             int   // window
	Bytes               int64 // of transfers that are done, and of those that were under way at the end
	Seconds             float64
	P50, P99            float64 // seconds of a transfer
	Packets, Repeats    int     // of data; of those, again or out of turn
}

func (f fetched) rate() float64 { return float64(f.Bytes) / f.Seconds / 1e6 }

// tftpBytes is the content of a file.
func tftpBytes(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// tftpClient returns the address of a client, by its number.
func tftpClient(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
}

var tftpClients = netip.MustParsePrefix("10.1.0.0/16")

func tftpLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a fetchArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 5000})
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	_ = udp.SetReadBuffer(16 << 20)
	_ = udp.SetWriteBuffer(16 << 20)
	conn, err := mmsg.New(udp, true)
	if err != nil {
		return nil, err
	}
	f := &fetcher{
		fetchArgs: a, udp: udp, conn: conn, in: mmsg.NewReader(128, 1600), out: mmsg.NewWriter(128),
		want: tftpBytes(a.Size), clients: map[netip.Addr]*fetch{}, next: a.FirstClient,
	}
	return f.run()
}

// A fetch is one transfer, as its client sees it.
type fetch struct {
	addr    netip.Addr
	server  netip.AddrPort
	block   int
	window  int
	have    int  // blocks
	inRow   int  // of them, since the last ACK
	gap     bool // and it was said
	last    []byte
	started time.Time
	heard   time.Time
	tries   int
}

type fetcher struct {
	fetchArgs
	udp     *net.UDPConn
	conn    *mmsg.Conn
	in, out *mmsg.Batch
	want    []byte
	clients map[netip.Addr]*fetch
	next    int
	started int
	took    []time.Duration
	res     fetched
}

// A client asks again after a second of silence, and gives up after ten.
const (
	fetchPatience = time.Second
	fetchTries    = 10
)

func (f *fetcher) run() (fetched, error) {
	begin := time.Now()
	end, swept := begin.Add(f.For), begin
	for range f.Clients {
		f.begin(begin)
	}
	now := begin
	for len(f.clients) > 0 && (f.Transfers > 0 || now.Before(end)) {
		f.flush()
		_ = f.udp.SetReadDeadline(now.Add(20 * time.Millisecond))
		n, err := f.in.Read(f.conn)
		now = time.Now()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return f.res, fmt.Errorf("read: %w", err)
		}
		for i := range n {
			to, _ := f.in.To(i)
			if c := f.clients[to]; c != nil {
				f.hear(c, f.in.Packet(i), f.in.From(i), now)
			}
		}
		if now.Sub(swept) > 20*time.Millisecond {
			swept = now
			f.sweep(now)
		}
	}
	return f.result(now.Sub(begin))
}

func (f *fetcher) result(took time.Duration) (fetched, error) {
	for _, c := range f.clients {
		f.res.Bytes += int64(c.have * c.block)
	}
	f.res.Done, f.res.Seconds = len(f.took), took.Seconds()
	switch {
	case f.res.Bytes == 0 || f.res.Done < f.Transfers-f.res.Failed-f.res.Wrong:
		return f.res, fmt.Errorf("%d transfers came to their end, %d failed", f.res.Done, f.res.Failed)
	case f.res.Done == 0: // of the slowest server, in a short round
		return f.res, nil
	}
	slices.Sort(f.took)
	f.res.P50, f.res.P99 = f.took[len(f.took)/2].Seconds(), f.took[len(f.took)*99/100].Seconds()
	return f.res, nil
}

// begin has a new client ask for the file.
func (f *fetcher) begin(now time.Time) {
	if f.Transfers > 0 && f.started == f.Transfers {
		return
	}
	f.started++
	c := &fetch{addr: tftpClient(f.next), block: 512, window: 1, started: now, heard: now}
	f.next++
	f.clients[c.addr] = c
	p := append([]byte{0, 1}, f.File...)
	p = append(p, "\x00octet\x00"...)
	options := []string{"blksize", strconv.Itoa(f.Block)}
	if f.Window > 1 {
		options = append(options, "windowsize", strconv.Itoa(f.Window))
	}
	for _, o := range options {
		p = append(append(p, o...), 0)
	}
	c.last = p
	f.send(c)
}

func (f *fetcher) send(c *fetch) {
	to := c.server
	if !to.IsValid() {
		to = netip.AddrPortFrom(f.Server, 69)
	}
	if f.out.Full() {
		f.flush()
	}
	f.out.Add(c.last, to, c.addr, 0)
}

// flush writes what was sent. What the kernel refuses is lost on the way, as
// packets are, and asked for again.
func (f *fetcher) flush() { _, _ = f.out.Write(f.conn) }

// ack acknowledges what a client has.
func (f *fetcher) ack(c *fetch) {
	c.last = []byte{0, 4, byte(c.have >> 8), byte(c.have)}
	c.inRow = 0
	f.send(c)
}

func (f *fetcher) hear(c *fetch, p []byte, from netip.AddrPort, now time.Time) {
	if len(p) < 4 || c.server.IsValid() && c.server != from {
		return
	}
	switch binary.BigEndian.Uint16(p) {
	case 6:
		if !c.server.IsValid() {
			c.server = from
			f.granted(c, p[2:])
		}
		if c.have == 0 {
			c.heard, c.tries = now, 0
			f.ack(c)
		}
	case 3:
		c.server = from
		f.data(c, binary.BigEndian.Uint16(p[2:]), p[4:], now)
	case 5:
		f.res.Failed++
		f.over(c, now)
	}
}

// granted reads the answer to options.
func (f *fetcher) granted(c *fetch, b []byte) {
	fields := bytes.Split(b, []byte{0})
	for i := 0; i+1 < len(fields); i += 2 {
		n, _ := strconv.Atoi(string(fields[i+1]))
		switch string(fields[i]) {
		case "blksize":
			c.block = n
		case "windowsize":
			c.window = n
		}
	}
	f.res.Granted = c.window
}

// data takes a block. RFC 7440: the first that is missing in a window is told
// of at once, by acknowledging the one before.
func (f *fetcher) data(c *fetch, n uint16, body []byte, now time.Time) {
	f.res.Packets++
	ahead := int16(n - uint16(c.have)) //nolint:gosec // block numbers wrap
	switch ahead {
	case 1:
	case 0: // the ACK was lost
		f.res.Repeats++
		f.ack(c)
		return
	default:
		f.res.Repeats++
		if ahead > 1 && !c.gap {
			c.gap = true
			f.ack(c)
		}
		return
	}
	c.heard, c.tries, c.gap = now, 0, false
	off := c.have * c.block
	if off > len(f.want) || !bytes.Equal(body, f.want[off:min(off+c.block, len(f.want))]) {
		f.res.Wrong++
		f.over(c, now)
		return
	}
	c.have++
	c.inRow++
	if len(body) < c.block {
		f.ack(c)
		f.res.Bytes += int64(len(f.want))
		f.took = append(f.took, now.Sub(c.started))
		f.over(c, now)
		return
	}
	if c.inRow == c.window {
		f.ack(c)
	}
}

// over is the end of one client, and the beginning of the next.
func (f *fetcher) over(c *fetch, now time.Time) {
	delete(f.clients, c.addr)
	f.begin(now)
}

// sweep has those ask again who have waited long enough.
func (f *fetcher) sweep(now time.Time) {
	for _, c := range f.clients {
		if now.Sub(c.heard) < fetchPatience {
			continue
		}
		c.heard = now
		if c.tries++; c.tries > fetchTries {
			f.res.Failed++
			f.over(c, now)
			continue
		}
		f.send(c)
	}
}
