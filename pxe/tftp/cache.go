package tftp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"
)

// mostUnnamed is how much of something that is no file, such as a script made
// for one machine, is taken into memory.
const mostUnnamed = 4 << 20

var errBusy = errors.New("too many files of that size are being read")

// A content is what a transfer sends: bytes in memory, or a file that did not
// fit there.
type content struct {
	size int64
	mem  []byte
	file interface {
		io.ReaderAt
		io.Closer
	}
	release func() // with file
}

// read returns n bytes at an offset. b is for those that are not in memory.
func (c *content) read(b []byte, off, n int64) ([]byte, error) {
	if c.file == nil {
		return c.mem[off : off+n], nil
	}
	if _, err := c.file.ReadAt(b[:n], off); err != nil {
		return nil, fmt.Errorf("read at %d: %w", off, err) // also of a file that became shorter
	}
	return b[:n], nil
}

func (c *content) close() {
	if c.file != nil {
		_ = c.file.Close()
		c.release()
	}
}

// A fileID is a file as it was at one time.
type fileID struct {
	dev, inode       uint64
	size             int64
	written, changed syscall.Timespec
}

// A cache keeps files in memory: the loaders that all machines of a rack ask
// for at once. It holds no more than most bytes; what was used longest ago
// gives way. A file that is replaced is another file.
type cache struct {
	most int64

	mu    sync.Mutex
	files map[fileID]*cached
	held  int64
	turn  int64

	opened chan struct{} // one place for each file read in place
}

type cached struct {
	load func() ([]byte, error)
	size int64
	used int64 // turn
}

func newCache(most int64, open int) *cache {
	return &cache{most: most, files: make(map[fileID]*cached), opened: make(chan struct{}, open)}
}

// A diskFile is what [os.File] is, of what came from Options.Open.
type diskFile interface {
	io.ReadCloser
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// take makes a content of what was opened, and closes it when it is in memory.
func (c *cache) take(r io.ReadCloser, size int64) (*content, error) {
	f, onDisk := r.(diskFile)
	if !onDisk {
		defer func() { _ = r.Close() }()
		if size > mostUnnamed {
			return nil, fmt.Errorf("%d bytes that are no file: %w", size, fs.ErrInvalid)
		}
		mem, err := readAll(r, size)
		return &content{size: size, mem: mem}, err
	}
	id, err := identify(f, size)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if held := c.hold(id, f); held != nil {
		defer func() { _ = f.Close() }()
		mem, err := held.load()
		if err != nil {
			c.drop(id, held)
		}
		return &content{size: size, mem: mem}, err
	}
	select {
	case c.opened <- struct{}{}:
		return &content{size: size, file: f, release: func() { <-c.opened }}, nil
	default:
		_ = f.Close()
		return nil, errBusy
	}
}

// hold returns the place of a file in the cache; nil when it is too big. The
// first that asks for its bytes reads them, the others wait.
func (c *cache) hold(id fileID, f io.ReaderAt) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	if e, ok := c.files[id]; ok {
		e.used = c.turn
		return e
	}
	if id.size > c.most/2 {
		return nil
	}
	for c.held+id.size > c.most {
		c.dropOldest()
	}
	e := &cached{size: id.size, used: c.turn, load: sync.OnceValues(func() ([]byte, error) {
		return readAll(io.NewSectionReader(f, 0, id.size), id.size)
	})}
	c.files[id] = e
	c.held += e.size
	return e
}

func (c *cache) drop(id fileID, e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[id] == e {
		delete(c.files, id)
		c.held -= e.size
	}
}

// dropOldest is called with the lock held. There are a handful of files.
func (c *cache) dropOldest() {
	var oldest fileID
	least := c.turn + 1
	for id, e := range c.files {
		if e.used < least {
			oldest, least = id, e.used
		}
	}
	c.held -= c.files[oldest].size
	delete(c.files, oldest)
}

func identify(f diskFile, size int64) (fileID, error) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Size() != size {
		return fileID{}, fmt.Errorf("a file of %d bytes, not %d: %w", info.Size(), size, fs.ErrInvalid)
	}
	return fileID{dev: uint64(st.Dev), inode: st.Ino, size: size, written: st.Mtim, changed: st.Ctim}, nil //nolint:unconvert // 32 bits elsewhere
}

func readAll(r io.Reader, size int64) ([]byte, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %d bytes: %w", size, err)
	}
	return b, nil
}
