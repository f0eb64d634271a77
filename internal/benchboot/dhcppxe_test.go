package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the figures of firmware are about: each answer names a boot file, of both
// servers as far as they are there.
func TestFirmwareUnderLoadIsToldWhatToBoot(t *testing.T) {
	for _, s := range []dhcpServer{{"provision", startProvisionPXE}, {"kea", startKeaPXE}} {
		t.Run(s.name, func(t *testing.T) {
			if s.name == "kea" {
				requirePeer(t, "kea-dhcp4")
			}
			d := newDrillWith(t, t.TempDir(), func(d *drill) (err error) {
				d.p, err = s.start(d.Context(), d.l, d.state)
				return err
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

// requirePeer skips what is about a peer that is not installed.
func requirePeer(t *testing.T, program string) {
	t.Helper()
	build := filepath.Dir(filepath.Dir(os.Getenv(programEnv)))
	if _, err := (&bench{build: build}).peer(program); err != nil {
		t.Skip(err)
	}
}

func TestWhatIsStoredInMemoryIsNotMeasured(t *testing.T) {
	const memory = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(memory, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Skipf("%s is no tmpfs here: %v", memory, err)
	}
	if dir, err := workDir(memory); err == nil || !strings.Contains(err.Error(), "-dir") {
		_ = os.Remove(dir)
		t.Errorf("workDir(%s) = %q, %v; want a hint of -dir", memory, dir, err)
	}
	b, _, _, err := parseFlags([]string{"-dir", memory, "build"})
	if err != nil || b.dir != memory {
		t.Errorf("-dir %s is %q, %v", memory, b.dir, err)
	}
}
