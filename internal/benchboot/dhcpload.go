package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/rackstage/provision/internal/mmsg"
)

// exchangeArgs say what clients do. They are behind a relay, which is what the
// load pretends to be.
type exchangeArgs struct {
	Server, Relay netip.Addr
	InFlight      int
	For           time.Duration
	FirstClient   uint32 // number of the first client; each exchange has a new one
	Firmware      bool   // they are PXE ROMs, and not operating systems
	Remember      bool   // say which addresses were acknowledged
}

// exchanged is what came of it.
type exchanged struct {
	Done     int // exchanges that ended with an ACK
	NoFile   int // of them, those of firmware that named no boot file
	Lost     int // that were given up after a second without an answer
	Refused  int // NAKs
	Twice    int // addresses that were acknowledged to two clients
	Seconds  float64
	P50, P99 float64  // milliseconds from DISCOVER to ACK
	Acked    []uint32 // if they were to be remembered, in order
	Holders  []uint32 // numbers of their clients
}

func (e exchanged) rate() float64 { return float64(e.Done) / e.Seconds }

// dialAsRelay opens a socket that a relay asks a server by.
func dialAsRelay(relay, server netip.Addr) (*net.UDPConn, error) {
	return net.DialUDP("udp4", &net.UDPAddr{IP: relay.AsSlice(), Port: 67}, &net.UDPAddr{IP: server.AsSlice(), Port: 67})
}

// dhcpLoad does four-way exchanges in a closed loop: as soon as one client has
// its address, the next one asks.
func dhcpLoad(_ context.Context, raw json.RawMessage) (any, error) {
	x, err := newExchanger(raw)
	if err != nil {
		return nil, err
	}
	defer x.udp.Close()
	return x.run()
}

func newExchanger(raw json.RawMessage) (*exchanger, error) {
	var a exchangeArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	if a.InFlight < 1 || a.InFlight >= 1<<slotBits {
		return nil, errors.New("no such number in flight")
	}
	udp, err := dialAsRelay(a.Relay, a.Server)
	if err != nil {
		return nil, err
	}
	if err := udp.SetReadBuffer(4 << 20); err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	conn, err := mmsg.New(udp, false)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	x := &exchanger{
		exchangeArgs: a, udp: udp, conn: conn, given: make([]uint64, 1<<24/64),
		out: mmsg.NewWriter(64), clients: make([]client, a.InFlight),
	}
	for i := range x.clients {
		x.clients[i].packet = make([]byte, x.size())
	}
	return x, nil
}

// A client is one exchange under way.
type client struct {
	packet  []byte // its DISCOVER and then its REQUEST
	xid     uint32
	asks    bool // it has sent its REQUEST
	started time.Time
	sent    time.Time
}

type exchanger struct {
	exchangeArgs
	udp     *net.UDPConn
	conn    *mmsg.Conn
	out     *mmsg.Batch
	clients []client
	next    uint32 // number of the next client
	given   []uint64
	took    []time.Duration
	res     exchanged
}

// The slot of a client is in the low bits of its xid.
const slotBits = 12

func (x *exchanger) run() (exchanged, error) {
	in := mmsg.NewReader(64, 1500)
	x.took = make([]time.Duration, 0, 1<<20)
	begin := time.Now()
	for i := range x.clients {
		x.begin(i, begin)
	}
	end, swept := begin.Add(x.For), begin
	for now := begin; now.Before(end); {
		if err := x.flush(); err != nil {
			return x.res, err
		}
		_ = x.udp.SetReadDeadline(now.Add(50 * time.Millisecond))
		n, err := in.Read(x.conn)
		now = time.Now()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return x.res, fmt.Errorf("read: %w", err)
		}
		for i := range n {
			x.hear(in.Packet(i), now)
		}
		if now.Sub(swept) > 50*time.Millisecond {
			swept = now
			x.giveUp(now)
		}
	}
	return x.result(time.Since(begin))
}

func (x *exchanger) result(took time.Duration) (exchanged, error) {
	x.res.Done, x.res.Seconds = len(x.took), took.Seconds()
	if x.res.Done == 0 {
		return x.res, errors.New("no exchange came to its end")
	}
	slices.Sort(x.took)
	ms := func(share int) float64 {
		return float64(x.took[len(x.took)*share/100]) / float64(time.Millisecond)
	}
	x.res.P50, x.res.P99 = ms(50), ms(99)
	return x.res, nil
}

func (x *exchanger) flush() error {
	if failed, err := x.out.Write(x.conn); err != nil {
		return fmt.Errorf("%d packets not sent: %w", failed, err)
	}
	return nil
}

func (x *exchanger) send(c *client) {
	if x.out.Full() {
		_ = x.flush() // the next one says what is wrong
	}
	x.out.Add(c.packet, netip.AddrPort{}, netip.Addr{}, 0)
}

// begin starts an exchange of a new client.
func (x *exchanger) begin(slot int, now time.Time) {
	c := &x.clients[slot]
	number := x.FirstClient + x.next
	x.next++
	c.xid = x.next<<slotBits | uint32(slot)
	c.asks, c.started, c.sent = false, now, now
	b := c.packet
	clear(b)
	copy(b, []byte{1, 1, 6, 1})
	binary.BigEndian.PutUint32(b[4:], c.xid)
	relay := x.Relay.As4()
	copy(b[24:], relay[:])
	mac := clientMAC(number)
	copy(b[28:], mac[:])
	o := append(b[236:236], 0x63, 0x82, 0x53, 0x63, 53, 1, 1)
	if !x.Firmware {
		o = append(o, 55, 9, 1, 3, 6, 15, 28, 51, 54, 58, 59)
	}
	x.end(o)
	x.send(c)
}

// clientMAC is the address of a client's card. Numbers in a row are far from
// each other, as the cards of a rack are: an index is not to be had for less.
func clientMAC(number uint32) (mac [6]byte) {
	mac[0], mac[1] = 0x52, 0x54
	binary.BigEndian.PutUint32(mac[2:], number*2654435761) // odd: no two are the same
	return mac
}

// size is that of a client's packets.
func (x *exchanger) size() int {
	if x.Firmware {
		return 347 // as OVMF sends them
	}
	return 300
}

// end adds what the firmware of a card says of itself, as OVMF does: what it wants
// to know, the largest message, the interface, its architecture, its UUID, and its class; and ends the
// options.
func (x *exchanger) end(o []byte) {
	if x.Firmware {
		o = append(o, 55, 13, 1, 3, 6, 12, 13, 15, 28, 43, 51, 54, 60, 66, 67, 57, 2, 0x05, 0xc0, 97, 17, 0)
		o = append(o, 0x4d, 0x5f, 0x1c, 0x2a, 0, 0, 0x40, 0, 0x80, 0)
		o = binary.BigEndian.AppendUint32(append(o, 0, 0), x.next) // each machine has its own
		o = append(o, "\x5e\x03\x01\x03\x00\x5d\x02\x00\x07\x3c\x20PXEClient:Arch:00007:UNDI:003000"...)
	}
	_ = append(o, 255)
}

// hear takes an answer.
func (x *exchanger) hear(b []byte, now time.Time) {
	if len(b) < 241 || b[0] != 2 {
		return
	}
	xid := binary.BigEndian.Uint32(b[4:])
	slot := int(xid & (1<<slotBits - 1))
	if slot >= len(x.clients) || x.clients[slot].xid != xid {
		return // of one that was given up
	}
	c := &x.clients[slot]
	kind, server := readOptions(b[240:])
	switch {
	case kind == 2 && !c.asks:
		c.asks, c.sent = true, now
		o := append(c.packet[240:240], 53, 1, 3, 50, 4)
		o = append(o, b[16:20]...)
		o = append(o, 54, 4)
		o = append(o, server...)
		x.end(o)
		x.send(c)
	case kind == 5:
		x.took = append(x.took, now.Sub(c.started))
		if x.Firmware && b[108] == 0 {
			x.res.NoFile++
		}
		addr := binary.BigEndian.Uint32(b[16:]) & (1<<24 - 1)
		if x.given[addr/64]&(1<<(addr%64)) != 0 {
			x.res.Twice++
		}
		x.given[addr/64] |= 1 << (addr % 64)
		if x.Remember {
			x.res.Acked = append(x.res.Acked, addr|10<<24)
			x.res.Holders = append(x.res.Holders, x.FirstClient+c.xid>>slotBits-1)
		}
		x.begin(slot, now)
	case kind == 6:
		x.res.Refused++
		x.begin(slot, now)
	}
}

// giveUp starts anew where no answer came for a second.
func (x *exchanger) giveUp(now time.Time) {
	for i := range x.clients {
		if now.Sub(x.clients[i].sent) > time.Second {
			x.res.Lost++
			x.begin(i, now)
		}
	}
}

// readOptions finds the kind of a message and its server.
func readOptions(o []byte) (kind byte, server []byte) {
	for len(o) > 2 && o[0] != 255 {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		n := int(o[1])
		if len(o) < 2+n {
			break
		}
		switch {
		case o[0] == 53 && n == 1:
			kind = o[2]
		case o[0] == 54 && n == 4:
			server = o[2:6]
		}
		o = o[2+n:]
	}
	return kind, server
}
