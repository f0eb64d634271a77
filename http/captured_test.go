package http

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
	"github.com/rackstage/provision/internal/pcap"
)

// captures returns the names of all captures: of firmware, and of what runs after
// it, in after-firmware.pcap (busybox wget, which debian-installer has, with a
// one-use URL, and the agent with a chunk, recorded in November 2026).
func captures(tb testing.TB) []string {
	tb.Helper()
	return append(firmwareCaptures(tb), "testdata/after-firmware.pcap")
}

func firmwareCaptures(tb testing.TB) []string {
	tb.Helper()
	four, err := filepath.Glob("../dhcp/testdata/*.pcap")
	six, err6 := filepath.Glob("../dhcp/dhcp6/testdata/*.pcap")
	if err != nil || err6 != nil || len(four) < 8 || len(six) < 2 {
		tb.Fatalf("captures: %q, %v; %q, %v", four, err, six, err6)
	}
	return append(four, six...)
}

// capturedRequests returns the heads of the HTTP requests in captures.
func capturedRequests(tb testing.TB, names ...string) (heads []string) {
	tb.Helper()
	for _, name := range names {
		some, err := pcap.Requests(name)
		if err != nil {
			tb.Fatal(err)
		}
		heads = append(heads, some...)
	}
	return heads
}

// capturedURLs returns what stands after a prefix in what is asked for in all
// captures, once each. There is something.
func capturedURLs(tb testing.TB, prefix string) (rest []string) {
	tb.Helper()
	for _, head := range capturedRequests(tb, captures(tb)...) {
		if at, ok := strings.CutPrefix(strings.Fields(head)[1], prefix); ok && !slices.Contains(rest, at) {
			rest = append(rest, at)
		}
	}
	if len(rest) == 0 {
		tb.Fatalf("no capture has a request for %s", prefix)
	}
	return rest
}

// What firmware, iPXE, shim and GRUB ask by HTTP, word for word, is answered:
// never by a redirect, and the connection stays usable.
func TestCapturedRequestsAreAnsweredAsReviewed(t *testing.T) {
	addr, _ := serveFirmware(t, func(o *Options) {
		for _, name := range []string{"shimx64.efi", "grubx64.efi", "shimaa64.efi", "grubaa64.efi", "vmlinuz-arm64", "initrd-arm64.img"} {
			if err := os.WriteFile(filepath.Join(o.BootDir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	var got strings.Builder
	for _, name := range firmwareCaptures(t) {
		fmt.Fprintf(&got, "%s\n", filepath.Base(name))
		f := newFirmware(t, addr, "")
		for _, head := range capturedRequests(t, name) {
			status, _, _ := f.ask(strings.ReplaceAll(head, "\r\n", "\n"))
			line, _, _ := strings.Cut(head, "\r\n")
			fmt.Fprintf(&got, "  %s: %s\n", line, status)
		}
	}
	golden.Check(t, "testdata/captured.golden", got.String())
}
