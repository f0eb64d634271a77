package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// getArgs say what HTTP clients do: each asks again as soon as it has its
// answer.
type getArgs struct {
	Server  netip.Addr
	Path    string // with {mac} where a client's MAC address goes
	Clients int
	For     time.Duration
	Each    int    // requests of a client before another one, from another address, takes its place; 0: it stays
	Lease   bool   // a client asks from its own address
	Most    int    // clients that there are in all; when each has asked, the load is over. 0: any number
	Want    string // is in the first answer to each client; "": anything
	Whole   bool   // a body is thrown away as it comes, and not read
}

// got is what came of it.
type got struct {
	Requests int
	Bytes    int64 // of bodies
	Failed   int
	Why      string // of one that failed
	Seconds  float64
}

func (g got) rate() float64 { return float64(g.Requests) / g.Seconds }

// httpLoad asks in a closed loop.
func httpLoad(ctx context.Context, raw json.RawMessage) (any, error) {
	var a getArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.For)
	defer cancel()
	var mu sync.Mutex
	var sum got
	var all sync.WaitGroup
	var next atomic.Int64
	begin := time.Now()
	for range a.Clients {
		all.Go(func() {
			g := &getter{getArgs: a, next: &next, trash: make([]byte, 1<<20)}
			g.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			sum.Requests += g.Requests
			sum.Bytes += g.Bytes
			sum.Failed += g.Failed
			if g.Why != "" {
				sum.Why = g.Why
			}
		})
	}
	all.Wait()
	sum.Seconds = time.Since(begin).Seconds()
	if sum.Requests == 0 {
		return nil, errors.New("no request was answered: " + sum.Why)
	}
	return sum, nil
}

// A getter is one client, and those that take its place.
type getter struct {
	getArgs
	got
	next  *atomic.Int64 // number of the client that takes the place of one
	trash []byte
}

func (g *getter) run(ctx context.Context) {
	end, _ := ctx.Deadline()
	over := func() bool { return ctx.Err() != nil || !time.Now().Before(end) } // the timer of ctx may be late
	for !over() {
		number := g.next.Add(1) - 1
		if g.Most > 0 && number >= int64(g.Most) {
			return
		}
		if err := g.visit(ctx, uint32(number)); err != nil && !over() { //nolint:gosec // a count
			g.Failed++
			g.Why = err.Error()
			if g.Failed > 1000 {
				return
			}
		}
	}
}

// visit is one connection of the client with a number.
func (g *getter) visit(ctx context.Context, n uint32) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	if g.Lease {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(hallAddr(n), 0))
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(g.Server, 80).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	mac := strings.ReplaceAll(hallMAC(n).String(), ":", "-")
	request := []byte("GET " + strings.ReplaceAll(g.Path, "{mac}", mac) + " HTTP/1.1\r\nHost: " + g.Server.String() + "\r\nUser-Agent: iPXE/1.21.1\r\n\r\n")
	in := bufio.NewReaderSize(conn, 4096)
	for i := 0; g.Each == 0 || i < g.Each; i++ {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		want := ""
		if i == 0 {
			want = g.Want
		}
		if err := g.answer(conn, in, want); err != nil {
			return err
		}
		g.Requests++
	}
	return nil
}

// answer reads one answer.
func (g *getter) answer(conn net.Conn, in *bufio.Reader, want string) error {
	size := int64(0)
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("answer: %s", bytes.TrimSpace(line))
		}
		if len(line) <= 2 {
			break
		}
		if key, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(key, []byte("Content-Length")) {
			if size, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return err
			}
		}
	}
	if want != "" {
		if body, err := in.Peek(int(size)); err != nil || !bytes.Contains(body, []byte(want)) {
			return fmt.Errorf("answer without %q: %w: %q", want, err, body)
		}
	}
	have := min(int64(in.Buffered()), size)
	if _, err := in.Discard(int(have)); err != nil {
		return err
	}
	if !g.Whole {
		n, err := io.CopyN(io.Discard, in, size-have)
		g.Bytes += have + n
		return err
	}
	g.Bytes += have
	return g.throwAway(conn, size-have)
}

// throwAway has the kernel drop what comes: the load is cheaper than the
// server.
func (g *getter) throwAway(conn net.Conn, size int64) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = raw.Read(func(fd uintptr) bool {
		for size > 0 {
			n, _, err := syscall.Recvfrom(int(fd), g.trash[:min(size, int64(len(g.trash)))], syscall.MSG_TRUNC|syscall.MSG_DONTWAIT)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return false
			case errors.Is(err, syscall.EINTR):
			case err != nil:
				fault = err
				return true
			case n == 0:
				fault = io.ErrUnexpectedEOF
				return true
			default:
				size -= int64(n)
				g.Bytes += int64(n)
			}
		}
		return true
	})
	return errors.Join(err, fault)
}
