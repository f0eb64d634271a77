package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/fault"
)

// A Layout is what is on a disk after the image was written.
type Layout struct {
	parts []GPTPart
	nodes []Part
}

// Layout makes the kernel read the partition table anew and returns what is
// there.
func (s System) Layout(ctx context.Context, id string) (Layout, error) {
	d, err := s.Ready(id)
	if err != nil {
		return Layout{}, err
	}
	f, err := Open(d.Path)
	if err != nil {
		return Layout{}, err
	}
	defer f.Close() // nothing was written
	if err := reread(ctx, f, d.Name); err != nil {
		return Layout{}, err
	}
	parts, err := ReadGPT(f.Small())
	if err != nil {
		return Layout{}, fault.Errorf(fault.DiskLayout, "disk %s: %w", d.Name, err)
	}
	d, err = s.Find(id)
	return Layout{parts, d.Parts}, err
}

// Root returns the device of the root partition, and its place in the table.
func (l Layout) Root() (string, GPTPart, error) {
	return l.device("root", func() (GPTPart, bool) {
		return Root(l.parts, func(p GPTPart) string { return l.holds(p) })
	})
}

// ESP returns the device of the EFI system partition, and its place in the
// table.
func (l Layout) ESP() (string, GPTPart, error) {
	return l.device("EFI system", func() (GPTPart, bool) { return ESP(l.parts) })
}

func (l Layout) device(what string, find func() (GPTPart, bool)) (string, GPTPart, error) {
	p, ok := find()
	if !ok {
		return "", p, fault.Errorf(fault.DiskLayout, "the written image has no %s partition", what)
	}
	i := slices.IndexFunc(l.nodes, func(n Part) bool { return n.Number == p.Number })
	if i < 0 {
		return "", p, fault.Errorf(fault.DiskLayout, "the kernel does not show partition %d (%s)", p.Number, what)
	}
	return l.nodes[i].Path, p, nil
}

func (l Layout) holds(p GPTPart) string {
	for _, n := range l.nodes {
		if n.Number == p.Number {
			return DeviceHolds(n.Path, n.Size)
		}
	}
	return ""
}

// DeviceHolds is [Signature] for a device; "" also when it cannot be read.
func DeviceHolds(path string, size int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() // read only
	return Signature(f, size)
}

// mountable are the file systems that an image may have its parts on.
var mountable = []string{"ext4", "xfs", "btrfs", "vfat"}

// WithMounted mounts a partition on a fresh folder below dir, calls do with
// it, and takes it off again: everything is on the disk then.
func WithMounted(device string, readOnly bool, dir string, do func(at string) error) (err error) {
	size, err := sizeOf(device)
	if err != nil {
		return fault.Errorf(fault.DiskIO, "%w", err)
	}
	kind := DeviceHolds(device, size)
	if !slices.Contains(mountable, kind) {
		return fault.Errorf(fault.DiskLayout, "%s holds %q, which cannot be mounted", device, kind)
	}
	at := filepath.Join(dir, filepath.Base(device))
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(device, at, kind, flags, ""); err != nil {
		return fault.Errorf(fault.DiskIO, "mount %s (%s): %w", device, kind, err)
	}
	defer func() {
		if uerr := unix.Unmount(at, 0); uerr != nil {
			err = errors.Join(err, fault.Errorf(fault.DiskIO, "unmount %s: %w", device, uerr))
		}
	}()
	return do(at)
}

func sizeOf(device string) (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, fmt.Errorf("open partition: %w", err)
	}
	defer f.Close() // read only
	return blockSize64(f)
}
