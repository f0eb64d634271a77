package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// siegeArgs are attacks of several kinds, all at the same time.
type siegeArgs struct {
	Server, GoodRelay netip.Addr
	HalfOpen          int // TFTP transfers that nobody acknowledges
	Readers           int // that ask for a large file by HTTP, and read a little of it each second
	Talkers           int // that send a request with long headers by HTTP each second
	For               time.Duration
}

// besieged is how good clients fared, by protocol, and how often each attack
// came: in all, and while a good client waited.
type besieged struct {
	Good            map[string]survivor
	Sent, Meanwhile map[string]int
}

// The attacks, which are the names of their counts as well.
const (
	siegeHalfOpen = "requests of half-open transfers"
	siegeReaders  = "readings of slow readers"
	siegeTalkers  = "refusals of long headers"
	siegeACKs     = "ACKs"
)

// siegeFile is what attackers ask for: as large as a file may be for TFTP, and
// larger than what the kernel takes of an answer at once.
const (
	siegeFile     = "siege.bin"
	siegeFileSize = 4 << 20
)

// Addresses of attackers, of each kind. The clients of half-open transfers have
// those from the last one on.
var (
	siegeReader   = hallAddr(1 << 12)
	siegeTalker   = hallAddr(1<<12 + 1)
	siegeStormer  = hallAddr(1<<12 + 2)
	siegeStranger = hallAddr(1<<12 + 3)
)

const siegeFirst = 1<<12 + 4

// siegeLoad lets good clients try, one after the other, as soon as all attacks
// are under way.
func siegeLoad(ctx context.Context, raw json.RawMessage) (any, error) {
	var a siegeArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	good, err := newGoodClients(a.Server, a.GoodRelay)
	if err != nil {
		return nil, err
	}
	defer good.close()
	s := &siege{siegeArgs: a, floods: map[string]*flood{}}
	defer s.end()
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	res := besieged{Good: map[string]survivor{}, Sent: map[string]int{}, Meanwhile: map[string]int{}}
	end := time.Now().Add(a.For)
	for n := uint32(0); time.Now().Before(end); n++ {
		for p, try := range good.tries() {
			before := s.sent()
			took, err := try(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("a good client of %s, in %v: %w", p, before, err)
			}
			g := res.Good[p]
			res.Good[p] = survivor{Good: g.Good + 1, Slowest: max(g.Slowest, took.Seconds())}
			res.Sent = s.sent()
			for name, sent := range res.Sent {
				res.Meanwhile[name] += sent - before[name]
			}
		}
	}
	return res, nil
}

// A siege is all attacks that go on.
type siege struct {
	siegeArgs
	floods  map[string]*flood
	closers []io.Closer
}

// begin returns when each attack is at its full height.
func (s *siege) begin(ctx context.Context) error {
	half, err := s.newHalfOpen()
	if err != nil {
		return err
	}
	storm, err := s.newACKStorm()
	if err != nil {
		return err
	}
	readers := make([]slowReader, s.Readers)
	refused := make([]atomic.Bool, s.Talkers)
	s.floods[siegeHalfOpen] = startFlood(half.send)
	s.floods[siegeACKs] = startFlood(storm.send)
	s.floods[siegeReaders] = startCrowd(s.Readers, func(i int) bool { return readers[i].read(ctx, s.Server) })
	s.floods[siegeTalkers] = startCrowd(s.Talkers, func(i int) bool {
		ok := talk(ctx, s.Server)
		if ok {
			refused[i].Store(true)
		}
		return ok
	})
	return poll(ctx, 30*time.Second, func() error {
		for name, least := range map[string]int64{siegeHalfOpen: int64(s.HalfOpen), siegeReaders: int64(s.Readers), siegeTalkers: int64(s.Talkers), siegeACKs: 1} {
			if n := s.floods[name].sent.Load(); n < least {
				return fmt.Errorf("%d %s so far, want %d", n, name, least)
			}
		}
		for i := range refused {
			if !refused[i].Load() {
				return errors.New("not everybody who sends long headers was refused")
			}
		}
		return nil
	})
}

func (s *siege) sent() map[string]int {
	sent := map[string]int{}
	for name, f := range s.floods {
		sent[name] = int(f.sent.Load())
	}
	return sent
}

func (s *siege) end() {
	for _, f := range s.floods {
		f.end()
	}
	for _, c := range s.closers {
		_ = c.Close()
	}
}

// startCrowd has each of so many do something a second after it did it last;
// what did not come off is not counted.
func startCrowd(size int, do func(i int) bool) *flood {
	f := &flood{stop: make(chan struct{})}
	for i := range size {
		f.done.Go(func() {
			again := time.NewTicker(time.Second)
			defer again.Stop()
			for {
				if do(i) {
					f.sent.Add(1)
				}
				select {
				case <-f.stop:
					return
				case <-again.C:
				}
			}
		})
	}
	return f
}

// A slowReader asks for a file, and takes a little of it each time. Whoever ends
// its connection has it back a second later.
type slowReader struct{ conn net.Conn }

func (r *slowReader) read(ctx context.Context, server netip.Addr) bool {
	if r.conn == nil {
		conn, err := siegeDial(ctx, siegeReader, server)
		if err != nil {
			return false
		}
		r.conn = conn
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10) //nolint:forcetypeassert // of tcp4
		_, _ = io.WriteString(conn, "GET /boot/"+siegeFile+" HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	_ = r.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := r.conn.Read(make([]byte, 512))
	if err != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
	return n > 0
}

func siegeDial(ctx context.Context, local, server netip.Addr) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp4", netip.AddrPortFrom(server, 80).String())
}

// talk sends more headers than anybody has to say, and reports whether it was
// told so.
func talk(ctx context.Context, server netip.Addr) bool {
	conn, err := siegeDial(ctx, siegeTalker, server)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, "GET /boot/"+siegeFile+" HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 32<<10)+"\r\n\r\n") // is not read to its end
	answer := make([]byte, len("HTTP/1.1 431"))
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == "HTTP/1.1 431"
}
