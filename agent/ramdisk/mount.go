package ramdisk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A mount is one file system that the kernel shows itself in.
type mount struct {
	kind, at string
	flags    uintptr
	data     string
}

var mounts = []mount{
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
}

// Mount mounts what every program expects.
func Mount() error {
	var trouble []error
	for _, m := range mounts {
		trouble = append(trouble, m.do())
	}
	return errors.Join(trouble...)
}

// MountEFIVars mounts the firmware's variables, where there are any. Its
// module is loaded by the kernel's own request.
func MountEFIVars() error {
	const dir = "/sys/firmware/efi/efivars"
	if _, err := os.Stat(dir); err != nil {
		return nil //nolint:nilerr // a BIOS has none
	}
	return mount{"efivarfs", dir, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}.do()
}

// MountTerminals mounts the terminals of programs that pretend to be one.
func MountTerminals() error {
	return mount{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"}.do()
}

func (m mount) do() error {
	if err := os.MkdirAll(m.at, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", m.at, err)
	}
	err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data)
	if err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: mounted already
		return fmt.Errorf("mount %s: %w", m.at, err)
	}
	return nil
}
