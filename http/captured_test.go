package http

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
	"github.com/rackstage/provision/internal/pcap"
)

// capturedRequests returns the heads of the HTTP requests in a capture, one
// string each.
func capturedRequests(tb testing.TB, name string) (heads []string) {
	tb.Helper()
	packets, err := pcap.Packets(name)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range packets {
		head, whole := strings.CutSuffix(string(p.Data), "\r\n\r\n")
		if whole && p.TCP && (strings.HasPrefix(head, "GET ") || strings.HasPrefix(head, "HEAD ")) {
			heads = append(heads, head)
		}
	}
	return heads
}

// What firmware, iPXE, shim and GRUB ask by HTTP, word for word, is answered:
// never by a redirect, and the connection stays usable.
func TestCapturedRequestsAreAnsweredAsReviewed(t *testing.T) {
	four, err := filepath.Glob("../dhcp/testdata/*.pcap")
	six, err6 := filepath.Glob("../dhcp/dhcp6/testdata/*.pcap")
	if err != nil || err6 != nil || len(four) < 8 || len(six) < 2 {
		t.Fatalf("captures: %q, %v; %q, %v", four, err, six, err6)
	}
	addr, _ := serveFirmware(t, func(o *Options) {
		for _, name := range []string{"shimx64.efi", "grubx64.efi", "shimaa64.efi", "grubaa64.efi", "vmlinuz-arm64", "initrd-arm64.img"} {
			if err := os.WriteFile(filepath.Join(o.BootDir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	var got strings.Builder
	for _, name := range append(four, six...) {
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
