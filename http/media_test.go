package http

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

const mediaSecret = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"

// A discDesk is a server with a machine whose BMC was given a CD image.
type discDesk struct {
	t    *testing.T
	s    *Server
	e    *rackEngine
	dir  string
	base string
}

func newDiscDesk(t *testing.T) *discDesk {
	t.Helper()
	d := &discDesk{t: t}
	d.s, d.e = newTestServer(t, func(o *Options) {
		d.dir = o.BootDir
		o.ServerFor = func(machine netip.Addr) (netip.Addr, error) {
			if machine.Is4() && machine.As4()[2] == 1 { // the BMCs' network
				return netip.MustParseAddr("10.77.1.1"), nil
			}
			return netip.MustParseAddr("10.77.0.1"), nil
		}
	})
	d.file("cd-bios.img", bytes.Repeat([]byte("grub"), 1000))
	d.file("cd-x64.img", bytes.Repeat([]byte("esp."), 3000))
	d.file("cd-arm64.img", bytes.Repeat([]byte("arm."), 3000))
	d.file("vmlinuz-arm64", []byte("kernel of arm64"))
	d.file("initrd-arm64.img", []byte("ramdisk of arm64"))
	d.file("rescue.img", []byte("ramdisk with a shell"))
	n := d.e.nodes[1]
	n.BMC = fleet.BMC{Address: "10.77.1.12", Driver: fleet.DriverRedfish}
	d.boots(n)
	server := httptest.NewServer(d.s.BootHandler())
	t.Cleanup(server.Close)
	d.base = server.URL
	return d
}

func (d *discDesk) boots(n fleet.Node) {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	d.e.nodes[1] = n
	d.e.medias = map[string]fleet.MediaBoot{mediaSecret: {Node: n, Hello: "the-ticket-of-hello", Expires: time.Now().Add(time.Hour)}}
}

func (d *discDesk) file(name string, content []byte) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

// path returns what the BMC is told to fetch, without our address.
func (d *discDesk) path() string {
	d.t.Helper()
	at, err := d.s.MediaURL(mediaSecret, netip.MustParseAddr("10.77.1.12"))
	if err != nil {
		d.t.Fatal(err)
	}
	u, err := url.Parse(at)
	if err != nil || u.Host != "10.77.1.1" || u.Scheme != "http" {
		d.t.Fatalf("the BMC is told %s, %v", at, err)
	}
	return u.Path
}

func TestABMCReadsTheSameImageHoweverItAsks(t *testing.T) {
	d := newDiscDesk(t)
	path := d.path()
	res, all := fetch(t, d.base, "GET", path)
	if res.StatusCode != http.StatusOK || len(all)%2048 != 0 || all[16*2048+1:16*2048+6] != "CD001" {
		t.Fatalf("GET: %s, %d bytes", res.Status, len(all))
	}
	head, none := fetch(t, d.base, "HEAD", path)
	if head.ContentLength != int64(len(all)) || none != "" || head.Header.Get("Accept-Ranges") != "bytes" || head.Header.Get("ETag") != res.Header.Get("ETag") {
		t.Errorf("HEAD: %v", head.Header)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		from := random.IntN(len(all))
		to := from + random.IntN(min(len(all)-from, 200_000))
		res, part := fetch(t, d.base, "GET", path, "Range: "+rangeOf(from, to))
		if res.StatusCode != http.StatusPartialContent || part != all[from:to+1] {
			t.Fatalf("bytes %d to %d: %s, %d bytes, which are others", from, to, res.Status, len(part))
		}
	}
	for _, want := range []string{
		"linux '/vmlinuz' 'console=ttyS0,115200'", "provision.ticket=the-ticket-of-hello", "provision.server=https://10.77.1.1:8443", "BOOTIF=01-52-54-00-00-00-02", "kernel kernel kernel",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the image has no %q in it", want)
		}
	}
	if strings.Contains(all, mediaSecret) {
		t.Error("the image has the secret of its own URL in it")
	}
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	if len(d.e.seen) != 1 || d.e.seen[0].Phase != fleet.PhaseLoader || d.e.seen[0].MAC != "52:54:00:00:00:02" || strings.Contains(d.e.seen[0].Detail, mediaSecret) {
		t.Errorf("seen: %+v, want that the image was read, once", d.e.seen)
	}
}

func rangeOf(from, to int) string { return fmt.Sprintf("bytes=%d-%d", from, to) }

func TestAnImageEndsWithItsBoot(t *testing.T) {
	tests := map[string]func(d *discDesk, path string) string{
		"a secret that is made up": func(_ *discDesk, path string) string {
			return strings.Replace(path, mediaSecret, strings.ToUpper(mediaSecret), 1)
		},
		"no secret": func(_ *discDesk, path string) string { return strings.Replace(path, mediaSecret, "", 1) },
		"a boot that is over": func(d *discDesk, path string) string {
			d.e.mu.Lock()
			defer d.e.mu.Unlock()
			clear(d.e.medias)
			return path
		},
		"another version":    func(_ *discDesk, path string) string { return strings.Replace(path, ".iso", "0.iso", 1) },
		"another ending":     func(_ *discDesk, path string) string { return strings.TrimSuffix(path, ".iso") },
		"a kernel was built": func(d *discDesk, path string) string { d.file("vmlinuz", []byte("another kernel")); return path },
		"it has a system by now": func(d *discDesk, path string) string {
			n := d.e.nodes[1]
			n.State = fleet.Active
			d.boots(n)
			return path
		},
		"it is quarantined": func(d *discDesk, path string) string {
			n := d.e.nodes[1]
			n.State = fleet.Quarantined
			d.boots(n)
			return path
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDiscDesk(t)
			path := d.path()
			if res, _ := fetch(t, d.base, "GET", path, "Range: bytes=0-2047"); res.StatusCode != http.StatusPartialContent {
				t.Fatalf("before: %s", res.Status)
			}
			path = change(d, path)
			for _, method := range []string{"GET", "HEAD"} {
				if res, body := fetch(t, d.base, method, path, "Range: bytes=0-2047"); res.StatusCode != http.StatusGone && res.StatusCode != http.StatusNotFound || len(body) > 200 {
					t.Errorf("%s: %s, %d bytes", method, res.Status, len(body))
				}
			}
			if got := d.s.BootStats(); got.Media != 1 || got.MediaRefused+got.NotFound == 0 {
				t.Errorf("counted %d answers, %d refused", got.Media, got.MediaRefused)
			}
		})
	}
}

func TestAnImageHasWhatTheNodeBoots(t *testing.T) {
	tests := map[string]struct {
		change func(n *fleet.Node)
		want   []string
		never  string
	}{
		"an arm64 machine":       {func(n *fleet.Node) { n.Inventory.Arch = "arm64" }, []string{"kernel of arm64", "linux '/vmlinuz-arm64'", "console=ttyAMA0"}, "kernel kernel"},
		"a BIOS":                 {func(n *fleet.Node) { n.Inventory.Firmware = "bios" }, []string{"grubgrub", "esp.esp", "kernel kernel"}, "of arm64"},
		"the rescue system":      {func(n *fleet.Node) { n.State = fleet.Rescue }, []string{"ramdisk with a shell", "initrd '/rescue.img'", "provision.rescue="}, "provision.ticket"},
		"a node with an address": {func(n *fleet.Node) { n.Addr = netip.MustParseAddr("10.77.0.50") }, []string{"provision.server=https://10.77.0.1:8443"}, "10.77.1.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDiscDesk(t)
			n := d.e.nodes[1]
			tt.change(&n)
			d.boots(n)
			_, all := fetch(t, d.base, "GET", d.path())
			for _, want := range tt.want {
				if !strings.Contains(all, want) {
					t.Errorf("the image has no %q in it", want)
				}
			}
			if strings.Contains(all, tt.never) {
				t.Errorf("the image has %q in it", tt.never)
			}
		})
	}
}

func TestWhyThereIsNoImageIsSaid(t *testing.T) {
	tests := map[string]struct {
		change func(d *discDesk, n *fleet.Node)
		want   string
	}{
		"a file that is missing": {func(d *discDesk, _ *fleet.Node) { _ = os.Remove(filepath.Join(d.dir, "cd-x64.img")) }, "cd-x64.img"},
		"a node with a system":   {func(_ *discDesk, n *fleet.Node) { n.State = fleet.Active }, "boots its own system"},
		"a node in quarantine":   {func(_ *discDesk, n *fleet.Node) { n.State = fleet.Quarantined }, "gets nothing"},
		"a script of its own": {func(d *discDesk, n *fleet.Node) {
			d.e.site.Scripts = []fleet.Script{{Name: "own", GRUB: "boot", Nodes: []string{string(n.MAC)}}}
		}, "script"},
		"nobody knows its subnet": {func(_ *discDesk, n *fleet.Node) { n.BMC.Address = "bmc-7.example" }, "network"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDiscDesk(t)
			n := d.e.nodes[1]
			tt.change(d, &n)
			d.boots(n)
			_, err := d.s.MediaURL(mediaSecret, netip.MustParseAddr("10.77.1.12"))
			if fleet.CodeOf(err) != fleet.CodeMediaImage || !strings.Contains(err.Error(), tt.want) || fleet.HintOf(err) == "" {
				t.Errorf("MediaURL: %v, want something about %q", err, tt.want)
			}
		})
	}
}

func TestAnImageIsNamedByHTTPSWhereTheBMCsSubnetSaysSo(t *testing.T) {
	d := newDiscDesk(t)
	d.s.o.BootHTTPS, d.s.o.ByHTTPS = 443, netip.MustParsePrefix("10.77.1.0/24").Contains
	at, err := d.s.MediaURL(mediaSecret, netip.MustParseAddr("10.77.1.12"))
	if err != nil || !strings.HasPrefix(at, "https://10.77.1.1/boot/media/") {
		t.Errorf("MediaURL = %s, %v", at, err)
	}
}

// A disc is read by many requests at a time, each from files of its own.
func BenchmarkMediaRange(b *testing.B) {
	s, e := newTestServer(b, func(o *Options) {
		o.ServerFor = func(netip.Addr) (netip.Addr, error) { return netip.MustParseAddr("10.77.0.1"), nil }
		for _, name := range []string{"cd-bios.img", "cd-x64.img"} {
			if err := os.WriteFile(filepath.Join(o.BootDir, name), make([]byte, 150<<10), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	})
	n := e.nodes[1]
	n.BMC.Address = "10.77.1.12"
	e.medias = map[string]fleet.MediaBoot{mediaSecret: {Node: n, Hello: "ticket"}}
	at, err := s.MediaURL(mediaSecret, netip.MustParseAddr("10.77.1.12"))
	if err != nil {
		b.Fatal(err)
	}
	u, _ := url.Parse(at)
	for b.Loop() {
		req := httptest.NewRequest("GET", u.Path, nil)
		req.Header.Set("Range", "bytes=32768-98303")
		out := httptest.NewRecorder()
		s.BootHandler().ServeHTTP(out, req)
		if out.Code != http.StatusPartialContent {
			b.Fatal(out.Code)
		}
		_, _ = io.Copy(io.Discard, out.Body)
	}
}
