package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What the figures of firmware are about: each answer names a boot file, of both
// servers.
func TestFirmwareUnderLoadIsToldWhatToBoot(t *testing.T) {
	for _, s := range []dhcpServer{{"provision", startProvisionPXE}, {"kea", startKeaPXE}} {
		t.Run(s.name, func(t *testing.T) {
			d := newDrillWith(t, t.TempDir(), func(d *drill) (err error) {
				if d.p, err = s.start(d.Context(), d.l, d.state); err != nil {
					return fmt.Errorf("%w (make test unpacks the peers)", err)
				}
				return nil
			})
			d.start()
			var r exchanged
			a := exchangeArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 64, For: time.Second, FirstClient: 1 << 22, Firmware: true}
			if err := d.l.load(t.Context(), 30*time.Second, "dhcp", a, &r); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d exchanges, %d without a file", r.Done, r.NoFile)
			if r.Done == 0 || r.NoFile > 0 || r.Refused > 0 || r.Twice > 0 {
				t.Errorf("%d exchanges, %d without a file, %d refused, %d twice", r.Done, r.NoFile, r.Refused, r.Twice)
			}
		})
	}
}

func TestWhatIsStoredInMemoryIsNotMeasured(t *testing.T) {
	memory := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", memory)
	t.Cleanup(func() { command(t, "umount", "-l", memory) })
	if dir, err := workDir(memory); err == nil || !strings.Contains(err.Error(), "-dir") {
		_ = os.Remove(dir)
		t.Errorf("workDir(%s) = %q, %v; want a hint of -dir", memory, dir, err)
	}
	b, _, _, err := parseFlags([]string{"-dir", memory, "build"})
	if err != nil || b.dir != memory {
		t.Errorf("-dir %s is %q, %v", memory, b.dir, err)
	}
}
