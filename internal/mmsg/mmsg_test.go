package mmsg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/netns"
)

func socket(t *testing.T, addr string) (*Conn, netip.AddrPort) {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	c, err := New(udp, true)
	if err != nil {
		t.Fatal(err)
	}
	return c, udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestPacketsArriveWithWhereTheyCameFromAndTo(t *testing.T) {
	a, from := socket(t, "127.0.0.1")
	b, to := socket(t, "127.0.0.1")
	w, r := NewWriter(10), NewReader(4, 100)
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		w.Add(fmt.Appendf(nil, "packet %d", i), to, from.Addr(), lo.Index*(i%2))
	}
	if !w.Full() || w.Len() != 10 {
		t.Errorf("Len = %d, Full = %t", w.Len(), w.Full())
	}
	if failed, err := w.Write(a); failed != 0 || err != nil {
		t.Fatalf("Write = %d, %v", failed, err)
	}
	for got := 0; got < 10; {
		n, err := r.Read(b)
		if err != nil || n < 1 || n > 4 {
			t.Fatalf("Read = %d, %v", n, err)
		}
		for i := range n {
			if want := fmt.Sprintf("packet %d", got); string(r.Packet(i)) != want || r.From(i) != from {
				t.Errorf("%q from %s, want %q from %s", r.Packet(i), r.From(i), want, from)
			}
			if addr, ifindex := r.To(i); addr != to.Addr() || ifindex != lo.Index {
				t.Errorf("came to %s by interface %d, want %s and %d", addr, ifindex, to.Addr(), lo.Index)
			}
			got++
		}
	}
}

func TestOneRefusedPacketDoesNotKeepTheOthersBack(t *testing.T) {
	a, _ := socket(t, "127.0.0.1")
	b, to := socket(t, "127.0.0.1")
	w, r := NewWriter(5), NewReader(5, 100)
	for i := range 5 {
		packet := []byte("fine")
		if i == 2 {
			packet = []byte(strings.Repeat("x", 70_000)) // no UDP packet is so long
		}
		w.Add(packet, to, netip.Addr{}, 0)
	}
	if failed, err := w.Write(a); failed != 1 || err == nil {
		t.Errorf("Write = %d, %v, want 1 and why", failed, err)
	}
	for got := 0; got < 4; {
		n, err := r.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
}

// Packets to an address that nobody has stay in the socket until ARP gives up.
func TestPacketsThatThereIsNoRoomForAreGivenUpInTime(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	for _, args := range [][]string{
		{"link", "add", "here0", "type", "veth", "peer", "name", "there0"},
		{"addr", "add", "192.0.2.1/24", "dev", "here0"},
		{"link", "set", "there0", "up"},
		{"link", "set", "here0", "up"},
	} {
		if err := netns.IP(args...); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := socket(t, "0.0.0.0")
	if err := a.udp.SetWriteBuffer(1); err != nil { // as little as there is
		t.Fatal(err)
	}
	b, to := socket(t, "127.0.0.1")
	w, r := NewWriter(100), NewReader(5, 100)
	fill := func(n int, to netip.AddrPort) {
		for range n {
			w.Add(make([]byte, 100), to, netip.Addr{}, 0)
		}
	}
	fill(100, netip.MustParseAddrPort("192.0.2.2:68"))
	began := time.Now()
	failed, err := w.WriteWithin(a, 20*time.Millisecond)
	if failed == 0 || failed == 100 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WriteWithin = %d, %v, want some of 100 and a time-out", failed, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if err := a.udp.SetWriteBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	fill(2, to)
	if failed, err := w.WriteWithin(a, 20*time.Millisecond); failed != 0 || err != nil {
		t.Errorf("then WriteWithin = %d, %v, although there is room", failed, err)
	}
	if n, err := r.Read(b); n == 0 || err != nil {
		t.Errorf("Read = %d, %v", n, err)
	}
}

func TestAClosedSocketEndsARead(t *testing.T) {
	a, _ := socket(t, "127.0.0.1")
	done := make(chan error)
	go func() {
		_, err := NewReader(1, 100).Read(a)
		done <- err
	}()
	_ = a.udp.Close()
	if err := <-done; err == nil {
		t.Error("Read of a closed socket says nothing")
	}
}

func TestReadingAndWritingTakeNoMemory(t *testing.T) {
	a, from := socket(t, "127.0.0.1")
	b, to := socket(t, "127.0.0.1")
	w, r := NewWriter(2), NewReader(2, 100)
	packet := []byte("hello")
	n := testing.AllocsPerRun(100, func() {
		w.Add(packet, to, from.Addr(), 0)
		if _, err := w.Write(a); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		if _, i := r.To(0); i == 0 || r.From(0) != from {
			t.Fatal("who was that?")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
