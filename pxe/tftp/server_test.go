package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on loopback and returns its address.
func serve(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	s, addr := serveAt(t, "udp4", "127.0.0.1:0", o)
	return s, addr.String()
}

// holding is an Open that knows some files by heart.
func holding(files map[string][]byte) func(context.Context, string, netip.AddrPort) (io.ReadCloser, int64, error) {
	return func(_ context.Context, name string, _ netip.AddrPort) (io.ReadCloser, int64, error) {
		b, ok := files[name]
		if !ok {
			return nil, 0, &fs.PathError{Op: "open", Path: "/secret/place/" + name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	return b
}

func TestAFileArrivesWholeAtEveryBlockSize(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 1468, 1468 * 2, 300_000} {
		want := noise(size)
		_, addr := serve(t, Options{Open: holding(map[string][]byte{"dir/f": want})})
		for _, block := range []int{0, 512, 1024, 1432, 1468, 8192} {
			c, err := tftp.NewClient(addr)
			if err != nil {
				t.Fatal(err)
			}
			if block > 0 {
				c.SetBlockSize(block)
			}
			c.RequestTSize(true)
			wt, err := c.Receive("/dir//f", "octet")
			if err != nil {
				t.Fatalf("Receive: %v", err)
			}
			var got bytes.Buffer
			if _, err := wt.WriteTo(&got); err != nil {
				t.Fatalf("WriteTo: %v", err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("size %d, block %d: got %d other bytes", size, block, got.Len())
			}
		}
	}
}

// ask sends one packet and returns the answer, and where it came from.
func ask(t *testing.T, addr, packet string) (*net.UDPConn, net.Addr, []byte) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	to, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteTo([]byte(packet), to); err != nil {
		t.Fatal(err)
	}
	b, from := receive(t, c)
	return c, from, b
}

func receive(t *testing.T, c *net.UDPConn) ([]byte, net.Addr) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return b[:n], from
}

func TestUEFIIsGrantedItsBlockSizeAndItsWindow(t *testing.T) {
	done := make(chan Transfer, 8)
	_, addr := serve(t, Options{
		Open: holding(map[string][]byte{"snponly.efi": noise(4000)}),
		Done: func(tr Transfer) { done <- tr },
	})
	// As OVMF does it (pcaps): first the size only, then the file.
	c, from, got := ask(t, addr, "\x00\x01snponly.efi\x00octet\x00tsize\x000\x00blksize\x001468\x00windowsize\x004\x00")
	if s := string(got); !strings.HasPrefix(s, "\x00\x06") || !strings.Contains(s, "tsize\x004000\x00") ||
		!strings.Contains(s, "blksize\x001468\x00") || !strings.Contains(s, "windowsize\x004\x00") {
		t.Errorf("answer = %q, want an OACK with tsize 4000, blksize 1468 and windowsize 4", got)
	}
	if _, err := c.WriteTo([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from); err != nil {
		t.Fatal(err)
	}
	if tr := <-done; !tr.Probed() || tr.Name != "snponly.efi" {
		t.Errorf("Done = %+v, want a probe", tr)
	}
	c, from, _ = ask(t, addr, "\x00\x01snponly.efi\x00octet\x00blksize\x001468\x00windowsize\x004\x00")
	var size int
	for _, ack := range []byte{0, 3} {
		if _, err := c.WriteTo([]byte{0, 4, 0, ack}, from); err != nil {
			t.Fatal(err)
		}
		for block := range 3 {
			if ack == 3 {
				break
			}
			b, _ := receive(t, c)
			if int(binary.BigEndian.Uint16(b[2:])) != block+1 {
				t.Fatalf("block %d came, want %d", binary.BigEndian.Uint16(b[2:]), block+1)
			}
			size += len(b) - 4
		}
	}
	if tr := <-done; size != 4000 || tr.Err != nil || tr.Sent != 4000 || tr.Window != 4 || tr.Block != 1468 || tr.RTT == 0 {
		t.Errorf("got %d bytes, Done = %+v, want 4000 bytes", size, tr)
	}
}

func TestABlockIsNoLargerThanTheClientGetsOnWith(t *testing.T) {
	for most, want := range map[int]string{0: "1468", 1024: "1024", 100: "512"} {
		_, addr := serve(t, Options{
			Open: holding(map[string][]byte{"f": noise(4000)}), MaxBlock: func(netip.Addr) int { return most },
		})
		_, _, got := ask(t, addr, "\x00\x01f\x00octet\x00blksize\x001468\x00")
		if !strings.Contains(string(got), "blksize\x00"+want+"\x00") {
			t.Errorf("answer = %q, want an OACK with blksize %s", got, want)
		}
	}
}

func TestAnErrorTellsTheClientNothingOfOurPaths(t *testing.T) {
	_, addr := serve(t, Options{Open: func(_ context.Context, name string, _ netip.AddrPort) (io.ReadCloser, int64, error) {
		switch name {
		case "broken":
			return nil, 0, errors.New("open /secret/place: permission denied")
		case "torn":
			return io.NopCloser(io.MultiReader(strings.NewReader("x"), brokenReader{})), 100, nil
		}
		return nil, 0, fmt.Errorf("/secret/place/%s: %w", name, fs.ErrNotExist)
	}})
	tests := map[string]string{
		"missing":          "file not found",
		"../../etc/passwd": "file not found",
		`..\..\etc`:        "file not found",
		"broken":           "not available",
		"torn":             "not available",
	}
	for name, want := range tests {
		_, _, got := ask(t, addr, "\x00\x01"+name+"\x00octet\x00")
		if s := string(got); !strings.HasPrefix(s, "\x00\x05") || strings.TrimRight(s[4:], "\x00") != want {
			t.Errorf("answer for %q = %q, want error %q", name, got, want)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("read /secret/place: I/O error") }

func TestAWriteIsRefused(t *testing.T) {
	s, addr := serve(t, Options{Open: holding(nil)})
	_, _, got := ask(t, addr, "\x00\x02x\x00octet\x00")
	if !strings.HasPrefix(string(got), "\x00\x05\x00\x02") {
		t.Errorf("answer = %q, want error 2", got)
	}
	if s.Stats().Writes != 1 {
		t.Errorf("Stats = %+v, want one write", s.Stats())
	}
}

func TestOneSourceCannotHoldMoreThanItsShare(t *testing.T) {
	stop := make(chan struct{})
	s, addr := serve(t, Options{
		MaxPerSource: 3, MaxTransfers: 5,
		Open: func(_ context.Context, name string, _ netip.AddrPort) (io.ReadCloser, int64, error) {
			if name == "hold" {
				<-stop
			}
			return nil, 0, fs.ErrNotExist
		},
	})
	for range 20 {
		flood, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flood.Close() }()
		if _, err := flood.Write([]byte("\x00\x01hold\x00octet\x00")); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { st := s.Stats(); return st.Running == 3 && st.Capped == 17 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	// Another source still gets its answer.
	other, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, must(net.ResolveUDPAddr("udp4", addr)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := other.Write([]byte("\x00\x01missing\x00octet\x00")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stats().NotFound == 1 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	// And what was held comes back.
	close(stop)
	waitFor(t, func() bool { return s.Stats().Running == 0 && s.Stats().NotFound == 4 }, func() string { return fmt.Sprintf("%+v", s.Stats()) })
	if _, _, got := ask(t, addr, "\x00\x01missing\x00octet\x00"); !strings.HasPrefix(string(got), "\x00\x05") {
		t.Errorf("answer = %q, want an error", got)
	}
}

// waitFor asks every few milliseconds until it is so, for five seconds.
func waitFor(t *testing.T, so func() bool, what func() string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if so() {
			return
		}
	}
	t.Fatalf("it never came to be: %s", what())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestALinkOutOfTheFolderIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	for name, err := range map[string]error{
		"secret": os.WriteFile(outside, []byte("secret"), 0o600),
		"file":   os.WriteFile(filepath.Join(dir, "file"), []byte("hello"), 0o600),
		"link":   os.Symlink(outside, filepath.Join(dir, "link")),
		"folder": os.Mkdir(filepath.Join(dir, "folder"), 0o700),
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if f, size, err := OpenIn(root, "file"); err != nil || size != 5 {
		t.Errorf("OpenIn(file) = %d, %v, want 5 bytes", size, err)
	} else {
		_ = f.Close()
	}
	for _, name := range []string{"link", "folder", "missing", "../secret"} {
		if f, _, err := OpenIn(root, name); err == nil {
			_ = f.Close()
			t.Errorf("OpenIn(%s) opened it", name)
		}
	}
}

func TestFilesGetThroughALossyNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	want := noise(256 << 10)
	_, addr := serve(t, Options{Open: holding(map[string][]byte{"f": want})})
	relay := lossy(t, addr, 20) // one packet in twenty, both ways
	c, err := tftp.NewClient(relay)
	if err != nil {
		t.Fatal(err)
	}
	c.SetBlockSize(1432)
	c.SetTimeout(400 * time.Millisecond)
	c.SetBackoff(func(int) time.Duration { return 0 })
	c.SetRetries(20)
	started := time.Now()
	wt, err := c.Receive("f", "octet")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := wt.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the content is another")
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %s", took)
	} else {
		t.Logf("256 KiB at 5%% loss took %s", took.Round(time.Millisecond))
	}
}

// lossy relays one client's packets to a server and back and drops every
// n-th. Replies come from one more port, as TFTP's do.
func lossy(t *testing.T, server string, n int) string {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = front.Close(), back.Close() })
	transfer := must(net.ResolveUDPAddr("udp4", server))
	var client netip.AddrPort
	clients, peers := make(chan netip.AddrPort, 1), make(chan netip.AddrPort, 4096)
	go func() { // to the client, from one port whatever the server's is
		b := make([]byte, 4096)
		for i := 0; ; i++ {
			l, from, err := back.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if !client.IsValid() {
				client = <-clients
			}
			peers <- from
			if i%n != n-1 {
				_, _ = front.WriteToUDPAddrPort(b[:l], client)
			}
		}
	}()
	go func() {
		b := make([]byte, 4096)
		to := transfer.AddrPort()
		for i := 0; ; i++ {
			l, from, err := front.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if i == 0 {
				clients <- from
			}
			select {
			case to = <-peers:
			default:
			}
			if i%n != n-1 {
				_, _ = back.WriteToUDPAddrPort(b[:l], to)
			}
		}
	}()
	return front.LocalAddr().String()
}
