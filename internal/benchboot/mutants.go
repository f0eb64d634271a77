package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// mutantsArgs are packets of real machines, of which so many mutants of each
// protocol are sent.
type mutantsArgs struct {
	Server, Relay, GoodRelay netip.Addr
	Packets                  captured
	Mutants                  int
}

// A survivor is how good clients of a protocol fared meanwhile.
type survivor struct {
	Good      int
	Slowest   float64 // seconds
	Meanwhile int     // mutants of the protocol that were sent while one waited
}

// mutant changes a packet in one to four ways, as a broken firmware, a bad wire
// or somebody with time on his hands would. The same random numbers make the
// same mutant.
func mutant(random *rand.Rand, packets [][]byte) []byte {
	b := slices.Clone(packets[random.IntN(len(packets))])
	for range 1 + random.IntN(4) {
		if len(b) < 2 {
			break
		}
		at := random.IntN(len(b) - 1)
		some := min(len(b)-at, 1+random.IntN(64))
		switch random.IntN(8) {
		case 0: // another byte
			b[at] = byte(random.Uint32())
		case 1: // another bit
			b[at] ^= 1 << random.IntN(8)
		case 2: // a length or a count that is not so
			binary.BigEndian.PutUint16(b[at:], []uint16{0, 1, 0x7fff, 0xffff}[random.IntN(4)])
		case 3: // something more
			more := make([]byte, some)
			for i := range more {
				more[i] = byte(random.Uint32())
			}
			b = slices.Insert(b, at, more...)
		case 4: // something less
			b = slices.Delete(b, at, at+some)
		case 5: // twice the same, option upon option
			for range 1 + random.IntN(8) {
				b = slices.Insert(b, at, b[at:at+some]...)
			}
		case 6: // the end of another one
			other := packets[random.IntN(len(packets))]
			b = append(b[:at], other[min(at, len(other)):]...)
		case 7: // the end is missing
			b = b[:at]
		}
	}
	return b[:min(len(b), 1472)]
}

// mutantsLoad sends mutants of each protocol, one after the other, and all the
// while lets good clients of each protocol try.
func mutantsLoad(ctx context.Context, raw json.RawMessage) (any, error) {
	var a mutantsArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	w, err := newMutantWires(a)
	if err != nil {
		return nil, err
	}
	defer w.close()
	good, err := newGoodClients(a.Server, a.GoodRelay)
	if err != nil {
		return nil, err
	}
	defer good.close()
	floods := map[string]*flood{}
	defer func() {
		for _, f := range floods {
			f.end()
		}
	}()
	for i, p := range []string{"dhcp4", "dhcp6", "tftp", "http"} {
		if len(a.Packets[p]) == 0 {
			return nil, fmt.Errorf("no packets of %s", p)
		}
		random := rand.New(rand.NewPCG(3, uint64(i))) //nolint:gosec // the same each time
		floods[p] = startFlood(func(n uint32) { w.send(ctx, p, n, mutant(random, a.Packets[p])) })
	}
	res := map[string]survivor{}
	for n := uint32(0); n < 10 || !a.enough(floods); n++ {
		for p, try := range good.tries() {
			before := floods[p].sent.Load()
			took, err := try(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("a good client of %s after %d mutants: %w", p, before, err)
			}
			s := res[p]
			res[p] = survivor{s.Good + 1, max(s.Slowest, took.Seconds()), s.Meanwhile + int(floods[p].sent.Load()-before)}
		}
	}
	return res, nil
}

// enough reports whether each protocol had its mutants.
func (a mutantsArgs) enough(floods map[string]*flood) bool {
	for _, f := range floods {
		if f.sent.Load() < int64(a.Mutants) {
			return false
		}
	}
	return true
}

// mutantWires are the sockets that mutants leave by, and what good clients do.
type mutantWires struct {
	mutantsArgs
	four, six *net.UDPConn
	tftp      []*net.UDPConn
}

func newMutantWires(a mutantsArgs) (w *mutantWires, err error) {
	w = &mutantWires{mutantsArgs: a}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.four, err = dialAsRelay(a.Relay, a.Server); err != nil {
		return w, err
	}
	if w.six, err = listenAsClient6(badLocal); err != nil {
		return w, err
	}
	bad := stormRange.Addr().Next().Next() // one that is served
	for range 16 {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: bad.AsSlice()})
		if err != nil {
			return w, err
		}
		w.tftp = append(w.tftp, c)
	}
	return w, nil
}

func (w *mutantWires) close() {
	for _, c := range append(w.tftp, w.four, w.six) {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Addresses of the clients' end: from the one come mutants, from the other what
// good clients say.
var (
	badLocal  = netip.MustParseAddr("fe80::66")
	goodLocal = netip.MustParseAddr("fe80::77")
)

var allServers6 = &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: clientIface}

// send lets one mutant go. What the kernel does not take is no matter.
func (w *mutantWires) send(ctx context.Context, protocol string, n uint32, b []byte) {
	switch protocol {
	case "dhcp4":
		if n%2 == 0 && len(b) >= 28 { // as a relay passes it on
			relay := w.Relay.As4()
			copy(b[24:], relay[:])
		}
		_, _ = w.four.Write(b)
	case "dhcp6":
		_, _ = w.six.WriteTo(b, allServers6)
	case "tftp":
		w.sendTFTP(w.tftp[int(n)%len(w.tftp)], n%3 == 0, b)
	case "http":
		w.sendHTTP(ctx, b)
	}
}

// sendTFTP sends to the server, or into the transfer that it began, for which it
// may wait a little.
func (w *mutantWires) sendTFTP(c *net.UDPConn, wait bool, b []byte) {
	to := netip.AddrPortFrom(w.Server, 69)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if wait {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	}
	if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 1500)); err == nil {
		to = from
	}
	_, _ = c.WriteToUDPAddrPort(b, to)
}

// sendHTTP sends a request on a connection of its own, and hangs up.
func (w *mutantWires) sendHTTP(ctx context.Context, b []byte) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", netip.AddrPortFrom(w.Server, 80).String())
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // of tcp4
	_, _ = conn.Write(b)
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
	_, _ = conn.Read(make([]byte, 512))
}
