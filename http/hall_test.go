package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// A hall is machines that have a system and boot it, each at an address of its own.
type hall struct {
	addrs  []netip.Addr
	macs   []fleet.MAC
	leases map[netip.Addr]fleet.Lease
}

// TenantAt implements Leases.
func (h *hall) TenantAt(netip.Addr) (fleet.MAC, bool) { return "", false }

// LeaseByAddr implements Leases.
func (h *hall) LeaseByAddr(addr netip.Addr) (fleet.Lease, bool) {
	l, ok := h.leases[addr]
	return l, ok
}

const hallSize = 16_384

// hallEngine is the real one.
type hallEngine struct{ *engine.Engine }

// Observe implements Boots.
func (e hallEngine) Observe(ev fleet.Evidence) { e.Engine.Observe(ev) }

// newHall stores the machines of a hall, and starts the engine that knows them.
func newHall(b *testing.B) (*hall, *engine.Engine) {
	b.Helper()
	h := &hall{leases: map[netip.Addr]fleet.Lease{}}
	site := fleet.Site{Subnets: []fleet.Subnet{{Name: "bench", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: fleet.Full, Server: netip.MustParseAddr("127.0.0.1")}}}
	c := fleet.Change{Site: &site}
	for i := range hallSize {
		addr := netip.AddrFrom4([4]byte{127, 64, byte(i >> 7), byte(i&127 + 1)})
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255))
		h.addrs, h.macs = append(h.addrs, addr), append(h.macs, mac)
		h.leases[addr] = fleet.Lease{Addr: addr, MAC: mac, Subnet: "bench", State: fleet.LeaseBound}
		c.Nodes = append(c.Nodes, fleet.Node{ID: fleet.NodeID(fmt.Sprintf("n-%010x", i)), MAC: mac, MACs: []fleet.MAC{mac}, Addr: addr, State: fleet.Active, Revision: 1})
	}
	db, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Save(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	e := engine.New(engine.Options{Store: db, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, db.Close()); err != nil {
			b.Error(err)
		}
	})
	<-e.Started()
	return h, e
}

// boot is the connection of one machine, which asks for its script so often.
func (h *hall) boot(i int, server string, times int) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.addrs[i], 0))}
	conn, err := d.Dial("tcp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	ask := []byte("GET /boot/ipxe?mac=" + dashed(h.macs[i]) + "&platform=efi&arch=x86_64 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: iPXE/1.21.1\r\n\r\n")
	in := bufio.NewReader(conn)
	for range times {
		if _, err := conn.Write(ask); err != nil {
			return err
		}
		first, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.Contains(first, []byte(" 200 ")) {
			return fmt.Errorf("answer: %s", first)
		}
		size := 0
		for line := first; len(line) > 2; {
			if line, err = in.ReadSlice('\n'); err != nil {
				return err
			}
			if length, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
				_, _ = fmt.Sscan(length, &size)
			}
		}
		if _, err := io.CopyN(io.Discard, in, int64(size)); err != nil {
			return err
		}
	}
	return nil
}

// A hall whose power comes back: each machine has a connection of its own, asks
// 16 times, as often as a boot does at most, and one fact of it is stored. The
// CPU is that of those who ask, too.
func BenchmarkScriptsOfAHall(b *testing.B) {
	h, e := newHall(b)
	s, _ := newTestServer(b, func(o *Options) { o.Engine, o.Leases, o.Now = hallEngine{e}, h, time.Now })
	l := listen(b)
	run(b, s, Listeners{Boot: []net.Listener{l}})
	before := cpu(b)
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := h.boot(int(next.Add(1))%hallSize, l.Addr().String(), 16); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(e.LastEvent())/float64(b.N), "facts/op")
	b.ReportMetric(float64(e.Dropped()), "dropped")
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
