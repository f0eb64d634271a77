package http

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// capturedRequests returns the heads of the HTTP requests in a capture, one
// string each.
func capturedRequests(tb testing.TB, name string) (heads []string) {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if head, whole, _ := bytes.Cut(tcpPayload(b[16:16+n]), []byte("\r\n\r\n")); whole != nil {
			heads = append(heads, string(head))
		}
		b = b[16+n:]
	}
	return heads
}

// tcpPayload returns what an Ethernet frame with TCP holds, if that is the
// beginning of a request.
func tcpPayload(frame []byte) []byte {
	if len(frame) < 74 {
		return nil
	}
	var tcp []byte
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == 0x0800 && frame[23] == 6:
		tcp = frame[14+int(frame[14]&15)*4:]
	case etherType == 0x86dd && frame[20] == 6:
		tcp = frame[54:]
	default:
		return nil
	}
	data := tcp[min(len(tcp), int(tcp[12]>>4)*4):]
	if !bytes.HasPrefix(data, []byte("GET ")) && !bytes.HasPrefix(data, []byte("HEAD ")) {
		return nil
	}
	return data
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
	const golden = "testdata/captured.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}
