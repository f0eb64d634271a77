package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A wire is a slow link: each namespace has a TAP device, and what goes into
// one comes out of the other some time later, or not at all. Kernels of small
// machines often have no netem.
type wire struct {
	delay time.Duration // each way
	loss  float64       // share of UDP packets that get lost, each way
	ends  [2]int        // descriptors of the TAP devices
	stop  atomic.Bool
	done  chan struct{}
}

// newSlowLink is newLink with a round trip and losses. It says what ping
// measures.
func (b *bench) newSlowLink(ctx context.Context, name string, server, client netip.Prefix, roundTrip time.Duration, loss float64) (*link, error) {
	id := strconv.Itoa(os.Getpid())
	l := &link{b: b, server: "bb" + id + name + "s", client: "bb" + id + name + "c"}
	w := &wire{delay: roundTrip / 2, loss: loss, ends: [2]int{-1, -1}, done: make(chan struct{}, 2)}
	err := func() error {
		for i, end := range []struct{ ns, iface, addr string }{{l.server, serverIface, server.String()}, {l.client, clientIface, client.String()}} {
			if err := ip(ctx, "netns", "add", end.ns); err != nil {
				return err
			}
			var err error
			if w.ends[i], err = newTAP(end.ns, end.iface); err != nil {
				return err
			}
			for _, args := range [][]string{
				{"link", "set", end.iface, "txqueuelen", "10000"},
				{"addr", "add", end.addr, "dev", end.iface},
				{"link", "set", "lo", "up"},
				{"link", "set", end.iface, "up"},
			} {
				if err := ip(ctx, append([]string{"-n", end.ns}, args...)...); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	l.wire = w
	w.run()
	if err == nil {
		err = l.ping(ctx, server.Addr())
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// newTAP makes a TAP device in a namespace.
func newTAP(ns, name string) (fd int, err error) {
	fd = -1
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and its namespace with it
		made <- func() error {
			f, err := os.Open("/run/netns/" + ns)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return os.NewSyscallError("setns", err)
			}
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
				return fmt.Errorf("open /dev/net/tun: %w", err)
			}
			req, err := unix.NewIfreq(name)
			if err != nil {
				return err
			}
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			return os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		}()
	}()
	return fd, errors.Join(<-made)
}

// ping says how long the round trip really is.
func (l *link) ping(ctx context.Context, server netip.Addr) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", l.client, "ping", "-q", "-c", "20", "-i", "0.02", server.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping: %w: %s", err, out)
	}
	_, rtt, _ := strings.Cut(string(out), "rtt ")
	l.b.say("round trip by ping: %s, loss %.1f %% each way", strings.TrimSpace(rtt), l.wire.loss*100)
	return nil
}

func (w *wire) run() {
	for i := range w.ends {
		go func() {
			defer func() { w.done <- struct{}{} }()
			runtime.LockOSThread()
			w.carry(w.ends[i], w.ends[1-i], rand.New(rand.NewPCG(7440, uint64(i)))) //nolint:gosec // chance that repeats
		}()
	}
}

// A held frame is one on its way.
type heldFrame struct {
	due  time.Time
	data []byte
}

// carry takes frames from one end to the other.
func (w *wire) carry(from, to int, chance *rand.Rand) {
	var held []heldFrame
	buf := make([]byte, 2048)
	for !w.stop.Load() {
		wait := unix.NsecToTimespec(int64(100 * time.Millisecond))
		if len(held) > 0 {
			wait = unix.NsecToTimespec(max(0, int64(time.Until(held[0].due))))
		}
		_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}}, &wait, nil)
		for {
			n, err := unix.Read(from, buf)
			if err != nil {
				break
			}
			if isUDP(buf[:n]) && chance.Float64() < w.loss {
				continue
			}
			held = append(held, heldFrame{time.Now().Add(w.delay), append([]byte(nil), buf[:n]...)})
		}
		now := time.Now()
		for len(held) > 0 && !held[0].due.After(now) {
			_, _ = unix.Write(to, held[0].data)
			held = held[1:]
		}
	}
}

// isUDP leaves ARP and ping alone, which would take a second to recover.
func isUDP(frame []byte) bool {
	return len(frame) > 23 && binary.BigEndian.Uint16(frame[12:]) == 0x0800 && frame[23] == unix.IPPROTO_UDP
}

func (w *wire) close() {
	w.stop.Store(true)
	for _, fd := range w.ends {
		<-w.done
		if fd >= 0 {
			defer func() { _ = unix.Close(fd) }()
		}
	}
}
