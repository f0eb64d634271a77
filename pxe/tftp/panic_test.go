package tftp

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"testing"
)

// A brokenFile panics when it is read, though not before.
type brokenFile struct{ fs.File }

func (brokenFile) ReadAt([]byte, int64) (int, error) { panic("a bug in a file") }

// Whatever a packet does to what it calls, it costs that transfer, and the
// next one is served.
func TestAPanicCostsOneTransfer(t *testing.T) {
	want := noise(2000)
	good := holding(map[string][]byte{"f": want, "last": want, "block": want})
	open := func(ctx context.Context, name string, client netip.AddrPort) (io.ReadCloser, int64, error) {
		switch name {
		case "open":
			panic("a bug in a script")
		case "file":
			return brokenFile{tempFile(t, noise(5000))}, 5000, nil
		}
		return good(ctx, name, client)
	}
	for _, single := range []bool{false, true} {
		s, at := serveAt(t, "udp4", "127.0.0.1:0", Options{
			Open: open, SinglePort: single, MaxMemory: 1000, // the file is read in place
			Done: func(tr Transfer) {
				if tr.Name == "last" {
					panic("a bug in who is told")
				}
			},
			MaxBlock: func(a netip.Addr) int {
				if a == netip.MustParseAddr("127.0.0.66") {
					panic("a bug in a quirk")
				}
				return 0
			},
			Serves: func(a netip.Addr) bool {
				if a == netip.MustParseAddr("127.0.0.67") {
					panic("a bug in who is served")
				}
				return true
			},
		})
		ask := func(from, request string) { newReader(t, from+":0", at).send([]byte(request)) }
		panics := []func(){
			func() { ask("127.0.0.1", "\x00\x01open\x00octet\x00") },
			func() { ask("127.0.0.1", "\x00\x01file\x00octet\x00") },
			func() { ask("127.0.0.66", "\x00\x01block\x00octet\x00blksize\x001468\x00") },
			func() { ask("127.0.0.67", "\x00\x01f\x00octet\x00") },
			func() { _, _ = newReader(t, "127.0.0.1:0", at).read("last", "") },
		}
		if !single {
			panics = append(panics, func() { ask("127.0.0.1", "\x00\x01open\x00netascii\x00") })
		}
		for i, bad := range panics {
			bad()
			waitFor(t, func() bool { return s.Stats().Panics == int64(i+1) }, func() string { return fmt.Sprintf("%d: %+v", i, s.Stats()) })
			if got, err := newReader(t, "127.0.0.1:0", at).read("f", "blksize 1468"); err != nil || len(got) != len(want) {
				t.Errorf("after panic %d: got %d bytes, %v", i, len(got), err)
			}
		}
		waitFor(t, func() bool { return s.Stats().Running == 0 && s.lines.plugged() == 0 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	}
}
