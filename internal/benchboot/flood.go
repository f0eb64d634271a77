package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// floodArgs are packets of as many made-up clients as a liar can think of.
type floodArgs struct {
	Server, Relay netip.Addr
	Clients       int
}

// flooded is how a good client fared meanwhile.
type flooded struct {
	Exchanges int
	Slowest   float64 // seconds
}

// floodLoad sends DISCOVERs of made-up clients, mutated packets, relay loops,
// floods of options and storms of one client's ACK-less REQUESTs, and now and then lets a
// good client get an address.
func floodLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a floodArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	udp, err := dialAsRelay(a.Relay, a.Server)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	_ = udp.SetReadBuffer(8 << 20)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	var res flooded
	for i := range a.Clients {
		if _, err := udp.Write(nastyPacket(random, a.Relay, uint32(i))); err != nil { //nolint:gosec // fewer
			return nil, err
		}
		if i%5000 != 4999 {
			continue
		}
		took, err := goodClient(udp, a.Relay, uint32(1<<31+i)) //nolint:gosec // fewer
		if err != nil {
			return res, err
		}
		res.Exchanges++
		res.Slowest = max(res.Slowest, took.Seconds())
	}
	return res, nil
}

// nastyPacket is most often an innocent DISCOVER of somebody who does not
// exist.
func nastyPacket(random *rand.Rand, relay netip.Addr, n uint32) []byte {
	b := discoverOf(relay, clientMAC(1<<29+n), n)
	switch n % 8 {
	case 4: // what relays pass on again and again, and what says that we did
		b[3] = 17
		if n%16 < 8 {
			ours := dhcpServerAddr.Addr().As4()
			b[3] = 1
			copy(b[24:], ours[:])
		}
	case 5: // bytes that were changed
		for range 8 {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
	case 6: // as many options as there is room for
		for len(b) < 1400 {
			b = append(b, byte(1+random.IntN(254)), 1, 0)
		}
		copy(b[243:], b[300:])
	case 7: // one client again and again, for what it was never offered
		mac := clientMAC(1 << 28)
		copy(b[28:], mac[:])
		b[242] = 3
		copy(b[243:], []byte{50, 4, 10, 1, 0, 9, 54, 4, 10, 0, 0, 1, 255})
	}
	return b
}

func discoverOf(relay netip.Addr, mac [6]byte, xid uint32) []byte {
	b := make([]byte, 300)
	copy(b, []byte{1, 1, 6, 1})
	binary.BigEndian.PutUint32(b[4:], xid)
	from := relay.As4()
	copy(b[24:], from[:])
	copy(b[28:], mac[:])
	copy(b[236:], []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255})
	return b
}

// goodClient gets an address, and asks again after a fifth of a second as all
// clients do, only sooner.
func goodClient(udp *net.UDPConn, relay netip.Addr, xid uint32) (time.Duration, error) {
	b := discoverOf(relay, clientMAC(xid), xid)
	in := make([]byte, 1500)
	began := time.Now()
	for time.Since(began) < 10*time.Second {
		if _, err := udp.Write(b); err != nil {
			return 0, err
		}
		_ = udp.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, err := udp.Read(in)
			if err != nil {
				break
			}
			if n < 241 || binary.BigEndian.Uint32(in[4:]) != xid {
				continue
			}
			switch kind, server := readOptions(in[240:n]); kind {
			case 2:
				b[242] = 3
				o := append(b[243:243], 50, 4)
				o = append(append(append(o, in[16:20]...), 54, 4), server...)
				_ = append(o, 255)
				if _, err := udp.Write(b); err != nil {
					return 0, err
				}
			case 5:
				return time.Since(began), nil
			}
		}
	}
	return 0, errors.New("a good client got no address in 10 s")
}
