package tftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/netns"
)

// On the way to this client is something that drops what is longer than 1,000
// bytes. It agrees to blocks of 1,468, and never sees one; with 512 it has its file.
func TestAClientBehindASmallMTUStalls(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	for _, args := range [][]string{
		{"link", "add", "rack0", "type", "veth", "peer", "name", "nic0"}, {"address", "add", "10.77.0.1/24", "dev", "rack0"}, {"link", "set", "rack0", "up"},
	} {
		if err := netns.IP(args...); err != nil {
			t.Fatal(err)
		}
	}
	file := bytes.Repeat([]byte("loader"), 2000)
	var most atomic.Int64
	done := make(chan Transfer, 4)
	_, addr := serveAt(t, "udp4", "0.0.0.0:0", Options{
		Open: func(context.Context, string, netip.AddrPort) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(file)), int64(len(file)), nil
		},
		Done: func(r Transfer) { done <- r }, MaxBlock: func(netip.Addr) int { return int(most.Load()) },
	})
	netns.Elsewhere(t, "nic0", func() error {
		for _, args := range [][]string{{"link", "set", "nic0", "mtu", "1000"}, {"address", "add", "10.77.0.9/24", "dev", "nic0"}, {"link", "set", "nic0", "up"}} {
			if err := netns.IP(args...); err != nil {
				return err
			}
		}
		to := netip.AddrPortFrom(netip.MustParseAddr("10.77.0.1"), addr.Port())
		if err := agreesAndWaits(to); err != nil {
			return err
		}
		if r := <-done; !r.Stalled() || r.Block != 1468 {
			t.Errorf("%+v: stalled is %t", r, r.Stalled())
		}
		most.Store(plainBlock)
		got, err := newReader(t, "10.77.0.9:0", to).read("ipxe.efi", "blksize 1468")
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("with blocks of 512: %d bytes, %v", len(got), err)
		}
		if r := <-done; r.Stalled() || r.Block != plainBlock {
			t.Errorf("%+v: stalled is %t", r, r.Stalled())
		}
		return nil
	})
}

// agreesAndWaits is a firmware that gives up after two seconds.
func agreesAndWaits(to netip.AddrPort) error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 9)})
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 2000)
	var from netip.AddrPort
	for tries := 0; !from.IsValid(); tries++ {
		if _, err := c.WriteToUDPAddrPort([]byte("\x00\x01ipxe.efi\x00octet\x00blksize\x001468\x00"), to); err != nil || tries == 20 {
			return errors.Join(err, errors.New("nothing was agreed"))
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if n, who, err := c.ReadFromUDPAddrPort(b); err == nil && n > 2 && b[1] == opOACK {
			from = who
		}
	}
	until := time.Now().Add(2 * time.Second)
	_ = c.SetReadDeadline(until)
	for err == nil {
		if _, err = c.WriteToUDPAddrPort([]byte{0, 4, 0, 0}, from); err != nil {
			return err
		}
		var n int
		if n, _, err = c.ReadFromUDPAddrPort(b); err == nil && n > 2 && b[1] == 3 {
			return errors.New("a block came through")
		}
	}
	_, err = c.WriteToUDPAddrPort([]byte("\x00\x05\x00\x00timeout\x00"), from)
	return err
}

func TestOnlyLargeBlocksThatNeverCameAreAStall(t *testing.T) {
	aborted, silent := &AbortedError{}, ErrSilent
	tests := map[string]struct {
		in   Transfer
		want bool
	}{
		"given up by the client":       {Transfer{Block: 1468, Packets: 5, Resent: 3, Err: aborted}, true},
		"given up by us":               {Transfer{Block: 1468, Packets: 9, Resent: 7, Err: silent}, true},
		"asked for the size":           {Transfer{Block: 1468, Packets: 1, Err: aborted}, false},
		"never agreed":                 {Transfer{Block: 1468, Packets: 6, Resent: 5, Err: ErrUnheard}, false},
		"some came through":            {Transfer{Block: 1468, Packets: 9, Resent: 5, Sent: 1468, Err: silent}, false},
		"small blocks":                 {Transfer{Block: 512, Packets: 9, Resent: 7, Err: silent}, false},
		"stopped at once":              {Transfer{Block: 1468, Packets: 2, Err: aborted}, false},
		"a file of nothing, in a rush": {Transfer{Block: 1468, Packets: 9, Resent: 7}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.in.Stalled(); got != tt.want {
				t.Errorf("Stalled = %t, want %t", got, tt.want)
			}
		})
	}
}
