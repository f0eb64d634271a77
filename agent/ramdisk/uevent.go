package ramdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// An uevent is the kernel's word that a device came or went.
type uevent map[string]string

// parseUevent reads "add@/devices/…" and the KEY=value texts behind it.
func parseUevent(b []byte) uevent {
	ev := uevent{}
	for i, part := range bytes.Split(b, []byte{0}) {
		if i == 0 {
			continue // says what ACTION and DEVPATH say
		}
		if key, value, ok := bytes.Cut(part, []byte("=")); ok {
			ev[string(key)] = string(value)
		}
	}
	return ev
}

// Hotplug hears of devices that come after the start: behind slow buses and
// links, or plugged in by hand.
type Hotplug struct {
	f *os.File
}

// OpenHotplug listens from now on.
func OpenHotplug() (*Hotplug, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	return &Hotplug{os.NewFile(uintptr(fd), "uevent")}, nil
}

// Serve loads the modules of new devices until ctx is done. Some take long to
// look at their hardware, the others do not wait for them.
func (h *Hotplug) Serve(ctx context.Context, m *Modules, log *slog.Logger) {
	stop := context.AfterFunc(ctx, func() { _ = h.f.Close() })
	defer stop()
	var g errgroup.Group
	g.SetLimit(atOnce)
	buf := make([]byte, 16*1024)
	for {
		n, err := h.f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue // too many at once: the kernel dropped some
		}
		if err != nil {
			return
		}
		ev := parseUevent(buf[:n])
		if ev["ACTION"] != "add" || ev["MODALIAS"] == "" {
			continue
		}
		g.Go(func() error {
			if err := m.Load(ev["MODALIAS"]); err != nil {
				log.Warn("module not loaded", "device", ev["DEVPATH"], "err", err)
			}
			return nil
		})
	}
}
