package disk

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blkZeroOut is BLKZEROOUT of linux/fs.h, _IO(0x12,127).
const blkZeroOut = 0x127f

func blockSize64(f *os.File) (int64, error) {
	var size uint64
	err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&size))
	return int64(size), err
}

func zeroOut(f *os.File, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	return ioctl(f, blkZeroOut, unsafe.Pointer(&span))
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

// newBuffer returns memory that disks accept past the page cache: it starts
// on a page.
func newBuffer(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func freeBuffer(b []byte) { _ = unix.Munmap(b) }
