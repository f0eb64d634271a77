package tftp

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Clients as Debian has them. Those that are not installed fail the test:
// internal/build/setup.sh test installs them.
func TestRealClientsGetTheirFiles(t *testing.T) {
	want := noise(300_001)
	clients := map[string]func(dir string, at netip.AddrPort) []string{
		"tftp-hpa": func(dir string, at netip.AddrPort) []string {
			return []string{"tftp", "-m", "binary", at.Addr().String(), port(at), "-c", "get", "boot.efi", filepath.Join(dir, "got")}
		},
		"tftp-hpa in netascii": func(dir string, at netip.AddrPort) []string {
			return []string{"tftp", "-m", "ascii", at.Addr().String(), port(at), "-c", "get", "text", filepath.Join(dir, "got")}
		},
		"atftp": func(dir string, at netip.AddrPort) []string {
			return []string{"atftp", "-g", "-r", "boot.efi", "-l", filepath.Join(dir, "got"), at.Addr().String(), port(at)}
		},
		"atftp with a window": func(dir string, at netip.AddrPort) []string {
			return []string{"atftp", "--option", "windowsize 16", "--option", "blksize 1428", "-g", "-r", "boot.efi", "-l", filepath.Join(dir, "got"), at.Addr().String(), port(at)}
		},
		"atftp with all options": func(dir string, at netip.AddrPort) []string {
			return []string{
				"atftp", "--option", "windowsize 4", "--option", "blksize 1024", "--option", "timeout 2", "--option", "tsize 0",
				"-g", "-r", "boot.efi", "-l", filepath.Join(dir, "got"), at.Addr().String(), port(at),
			}
		},
		"curl": func(dir string, at netip.AddrPort) []string {
			return []string{"curl", "-s", "-S", "-o", filepath.Join(dir, "got"), fmt.Sprintf("tftp://%s/boot.efi", at)}
		},
		"curl with big blocks": func(dir string, at netip.AddrPort) []string {
			return []string{"curl", "-s", "-S", "--tftp-blksize", "8192", "-o", filepath.Join(dir, "got"), fmt.Sprintf("tftp://%s/boot.efi", at)}
		},
		"busybox": func(dir string, at netip.AddrPort) []string {
			return []string{"busybox", "tftp", "-b", "1468", "-g", "-r", "boot.efi", "-l", filepath.Join(dir, "got"), at.Addr().String(), port(at)}
		},
	}
	for name, command := range clients {
		for _, single := range []bool{false, true} {
			if single && name == "tftp-hpa in netascii" {
				continue // refused there
			}
			t.Run(fmt.Sprintf("%s, single port %t", name, single), func(t *testing.T) {
				t.Parallel()
				want := want
				if name == "tftp-hpa in netascii" {
					want = bytes.Repeat([]byte("a line\nand another\r\n"), 1000)
				}
				_, at := serveAt(t, "udp4", "127.0.0.1:0", Options{Open: holding(map[string][]byte{"boot.efi": want, "text": want}), SinglePort: single})
				dir := t.TempDir()
				argv := command(dir, at)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%q: %v: %s", argv, err, out)
				}
				got, err := os.ReadFile(filepath.Join(dir, "got"))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
				}
			})
		}
	}
}

func port(at netip.AddrPort) string { return fmt.Sprint(at.Port()) }
