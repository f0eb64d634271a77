package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/fault"
)

// A Target is what an image is written to. Offsets and lengths of WriteAt
// and ReadAt are multiples of the disk's block, and the buffers are from
// [newBuffer], except for ReadSmall.
type Target interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Zero(off, n int64) error // reads as zeros afterwards, whatever was there
	Sync() error
	Size() int64
}

// A File is a disk, open for writing. Images go past the page cache: a node
// with 512 MiB of memory would do nothing but write back otherwise.
type File struct {
	cached *os.File // small reads, wiping
	direct *os.File // nil where it cannot be had (tests on tmpfs)
	size   int64
	block  bool
}

// Open opens a disk for this process alone: it fails when the kernel knows
// of somebody who uses it.
func Open(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Errorf(fault.DiskIO, "open disk: %w", err)
	}
	f := &File{block: info.Mode()&os.ModeDevice != 0, size: info.Size()}
	flags := os.O_RDWR
	if f.block {
		flags |= unix.O_EXCL
	}
	if f.cached, err = os.OpenFile(path, flags, 0); err != nil {
		code := fault.DiskIO
		switch {
		case errors.Is(err, unix.EBUSY):
			code = fault.DiskBusy
		case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
			code = fault.DiskReadOnly
		}
		return nil, fault.Errorf(code, "open disk: %w", err)
	}
	if f.direct, err = os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0); err != nil {
		f.direct = nil
	}
	if err := f.measure(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) measure() error {
	if !f.block {
		return nil
	}
	size, err := blockSize64(f.cached)
	if err != nil {
		return fault.Errorf(fault.DiskIO, "ask size of %s: %w", f.cached.Name(), err)
	}
	f.size = size
	return nil
}

// Close closes the disk.
func (f *File) Close() error {
	if f.direct != nil {
		_ = f.direct.Close() // nothing is written at close
	}
	return f.cached.Close()
}

// Size returns the size in bytes.
func (f *File) Size() int64 { return f.size }

// Small reads a few bytes anywhere, through the page cache.
func (f *File) Small() *os.File { return f.cached }

// ReadAt reads whole blocks from the disk itself.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.direct != nil {
		return f.direct.ReadAt(p, off)
	}
	return f.cached.ReadAt(p, off)
}

// WriteAt writes whole blocks.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f.direct != nil {
		return f.direct.WriteAt(p, off)
	}
	return f.cached.WriteAt(p, off)
}

// Sync returns when everything is on the disk.
func (f *File) Sync() error { return f.cached.Sync() }

// Zero lets the disk write zeros itself where it can; the kernel writes them
// where it cannot.
func (f *File) Zero(off, n int64) error {
	if !f.block {
		err := unix.Fallocate(int(f.cached.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if err == nil {
			return nil
		}
		return f.zeroByHand(off, n)
	}
	err := zeroOut(f.cached, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return f.zeroByHand(off, n)
	}
	return err
}

func (f *File) zeroByHand(off, n int64) error {
	zeros := make([]byte, 64*1024)
	for n > 0 {
		k, err := f.cached.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return fmt.Errorf("write zeros: %w", err)
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// Reread makes the kernel read the partition table anew.
func (f *File) Reread() error {
	if !f.block {
		return nil
	}
	return unix.IoctlSetInt(int(f.cached.Fd()), unix.BLKRRPART, 0)
}
