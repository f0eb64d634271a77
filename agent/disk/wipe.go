package disk

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/retry"
)

const mib = 1 << 20

// Wipe takes every signature off a disk, so that nothing of the old system is
// found, assembled or booted: the first and last MiB of the disk and of each
// partition, and the second superblocks of btrfs. The head of the disk goes
// last: until then the old table still says where the partitions are.
func Wipe(ctx context.Context, d Device) error {
	f, err := Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close() // synced before
	for _, p := range d.Parts {
		if err := wipeSpan(f, p.First, p.Size); err != nil {
			return err
		}
	}
	if err := wipeSpan(f, 0, f.Size()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fault.Errorf(fault.DiskIO, "wipe %s: %w", d.Name, err)
	}
	return reread(ctx, f, d.Name)
}

// spots are where second superblocks of btrfs are, from the start.
var spots = []int64{64 * mib, 256 << 30}

func wipeSpan(f *File, first, size int64) error {
	type span struct{ off, n int64 }
	spans := []span{{first + max(0, size-mib), min(size, mib)}}
	for _, s := range spots {
		if s+mib < size {
			spans = append(spans, span{first + s, 128 * 1024})
		}
	}
	spans = append(spans, span{first, min(size, mib)})
	for _, s := range spans {
		s.n = min(s.n, f.Size()-s.off) // a table may promise more than there is
		if s.off < 0 || s.n <= 0 {
			continue
		}
		if err := f.Zero(s.off, s.n); err != nil {
			return fault.Errorf(fault.DiskIO, "wipe %d bytes at %d: %w", s.n, s.off, err)
		}
	}
	return nil
}

// reread tries for a while: whoever looks at new disks (udev, the kernel's
// own scan) holds a partition open for a moment.
func reread(ctx context.Context, f *File, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := f.Reread()
		if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: never has partitions
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || retry.Pause(ctx, 100*time.Millisecond) != nil {
			return fault.Errorf(fault.DiskBusy, "read partition table of %s anew: %w", name, err)
		}
	}
}
