package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
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
	Server, Relay netip.Addr
	Packets       captured
	Mutants       int
}

// A survivor is how good clients of a protocol fared meanwhile.
type survivor struct {
	Good    int
	Slowest float64 // seconds
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

// mutantsLoad sends mutants, and now and then lets a good client of each
// protocol try.
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
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same each time
	res := map[string]survivor{}
	const tries = 10
	for i := range a.Mutants {
		for _, p := range []string{"dhcp4", "dhcp6", "tftp", "http"} {
			if len(a.Packets[p]) == 0 {
				return nil, fmt.Errorf("no packets of %s", p)
			}
			w.send(ctx, p, mutant(random, a.Packets[p]))
		}
		if i%(a.Mutants/tries) != 0 {
			continue
		}
		for p, try := range w.good() {
			began := time.Now()
			if err := try(ctx, uint32(i)); err != nil { //nolint:gosec // a count
				return nil, fmt.Errorf("a good client of %s after %d mutants: %w", p, i, err)
			}
			s := res[p]
			res[p] = survivor{s.Good + 1, max(s.Slowest, time.Since(began).Seconds())}
		}
	}
	return res, nil
}

// mutantWires are the sockets that mutants leave by, and what good clients do.
type mutantWires struct {
	mutantsArgs
	four, six *net.UDPConn
	tftp      []*net.UDPConn
	next      int
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
	if w.six, err = net.ListenUDP("udp6", &net.UDPAddr{Port: 546}); err != nil {
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

var allServers6 = &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: clientIface}

// send lets one mutant go. What the kernel does not take is no matter.
func (w *mutantWires) send(ctx context.Context, protocol string, b []byte) {
	w.next++
	switch protocol {
	case "dhcp4":
		if w.next%2 == 0 && len(b) >= 28 { // as a relay passes it on
			relay := w.Relay.As4()
			copy(b[24:], relay[:])
		}
		_, _ = w.four.Write(b)
	case "dhcp6":
		_, _ = w.six.WriteTo(b, allServers6)
	case "tftp":
		w.sendTFTP(w.tftp[w.next%len(w.tftp)], b)
	case "http":
		w.sendHTTP(ctx, b)
	}
}

// sendTFTP sends to the server, or into the transfer that it began.
func (w *mutantWires) sendTFTP(c *net.UDPConn, b []byte) {
	to := netip.AddrPortFrom(w.Server, 69)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if w.next%3 == 0 {
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

// good is what good clients do, at an address of their own.
func (w *mutantWires) good() map[string]func(ctx context.Context, n uint32) error {
	local := stormRange.Addr().Next()
	return map[string]func(context.Context, uint32) error{
		"dhcp4": func(_ context.Context, n uint32) error {
			_, err := goodClient(w.four, w.Relay, 1<<31+n)
			return err
		},
		"dhcp6": w.solicit,
		"tftp": func(ctx context.Context, _ uint32) error {
			b, err := tftpNode{local, netip.AddrPortFrom(w.Server, 69)}.get(ctx, mutantFile, 1428, 0)
			if err == nil && len(b) != mutantFileSize {
				err = fmt.Errorf("%d bytes", len(b))
			}
			return err
		},
		"http": func(ctx context.Context, _ uint32) error {
			c, err := dialHTTP(ctx, local, netip.AddrPortFrom(w.Server, 80))
			if err != nil {
				return err
			}
			defer c.close()
			b, err := c.get("/boot/"+mutantFile, "")
			if err == nil && len(b) != mutantFileSize {
				err = fmt.Errorf("%d bytes", len(b))
			}
			return err
		},
	}
}

// A file that good clients fetch.
const (
	mutantFile     = "ipxe.efi"
	mutantFileSize = 20_000
)

// solicit asks for an IPv6 address until one is advertised.
func (w *mutantWires) solicit(_ context.Context, n uint32) error {
	mac := hallMAC(n)
	b := []byte{1, 0x5e, byte(n >> 8), byte(n), 0, 1, 0, 10, 0, 3, 0, 1}
	b = append(b, mac...)
	b = append(b, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 2, 0, 0)
	in := make([]byte, 1500)
	for range 50 {
		if _, err := w.six.WriteTo(b, allServers6); err != nil {
			return err
		}
		_ = w.six.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			k, err := w.six.Read(in)
			if err != nil {
				break
			}
			if k > 4 && in[0] == 2 && slices.Equal(in[1:4], b[1:4]) {
				return nil
			}
		}
	}
	return errors.New("nothing was advertised in 10 s")
}
