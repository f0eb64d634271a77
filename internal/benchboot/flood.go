package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// floodArgs are packets of as many made-up clients as a liar can think of. Good
// clients are behind a relay of their own: what the liar is answered is not theirs
// to read.
type floodArgs struct {
	Server, Relay, GoodRelay netip.Addr
	Clients                  int
}

// flooded is how good clients fared meanwhile.
type flooded struct {
	Sent      int // packets of the flood
	Meanwhile int // of them, while a good client waited
	Exchanges int
	Slowest   float64 // seconds
}

// A flood goes on until it is ended.
type flood struct {
	sent atomic.Int64
	stop chan struct{}
	done sync.WaitGroup
}

// startFlood sends packet after packet: send is given their number.
func startFlood(send func(n uint32)) *flood {
	f := &flood{stop: make(chan struct{})}
	f.done.Go(func() {
		for {
			select {
			case <-f.stop:
				return
			default:
				send(uint32(f.sent.Load())) //nolint:gosec // fewer
				f.sent.Add(1)
			}
		}
	})
	return f
}

func (f *flood) end() { close(f.stop); f.done.Wait() }

// floodLoad sends DISCOVERs of made-up clients, mutated packets, relay loops,
// floods of options and storms of one client's ACK-less REQUESTs. All the while
// good clients get an address, one after the other.
func floodLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a floodArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	bad, err := dialAsRelay(a.Relay, a.Server)
	if err != nil {
		return nil, err
	}
	defer bad.Close()
	good, err := dialAsRelay(a.GoodRelay, a.Server)
	if err != nil {
		return nil, err
	}
	defer good.Close()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	f := startFlood(func(n uint32) { _, _ = bad.Write(nastyPacket(random, a.Relay, n)) })
	defer f.end()
	var res flooded
	for i := uint32(0); res.Exchanges < 20 || res.Sent < a.Clients; i++ {
		before := f.sent.Load()
		took, err := goodClient(good, a.GoodRelay, 1<<31+i)
		if err != nil {
			return res, err
		}
		res.Sent = int(f.sent.Load())
		res.Meanwhile += res.Sent - int(before)
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
			case 6: // begin again, as RFC 2131 section 3.1 says
				b = discoverOf(relay, clientMAC(xid), xid)
			case 5:
				return time.Since(began), nil
			}
		}
	}
	return 0, errors.New("a good client got no address in 10 s")
}
