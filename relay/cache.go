package relay

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/singleflight"

	"github.com/rackstage/provision/http/bootfile"
)

// A blob names content: a boot file by the SHA-256 of its bytes, a chunk of an
// image by its ID, which is the SHA-512/256 of its bytes unpacked.
type blob struct {
	kind blobKind
	id   string // 64 hex digits
}

type blobKind string

const (
	wholeFile blobKind = "file"
	chunk     blobKind = "chunk"
)

func (b blob) name() string { return string(b.kind) + "-" + b.id }

// blobOf reads a file's name in the cache.
func blobOf(name string) (blob, bool) {
	kind, id, _ := strings.Cut(name, "-")
	b := blob{blobKind(kind), id}
	return b, (b.kind == wholeFile || b.kind == chunk) && bootfile.IsHash(id)
}

// A cache keeps content on disk, up to a limit. What has not been used for
// longest goes first. Nothing leaves it that was not checked against its name
// by this very process: a file may be torn or damaged since it was written.
type cache struct {
	dir   string
	limit int64

	mu      sync.Mutex
	entries map[blob]*list.Element // of *entry
	used    *list.List             // last used first
	bytes   int64

	flights singleflight.Group
	slots   chan struct{}         // one for each fetch under way: what they write is beyond the limit
	fetched atomic.Int64          // bytes
	sick    atomic.Pointer[error] // why nothing could be written last
}

type entry struct {
	blob blob
	size int64
	tag  string // of the file as it was when its content was checked; "": it was not
}

// fetchesAtOnce is how many blobs are fetched at the same time, at most.
const fetchesAtOnce = 64

const partial = "part-" // what is being written

// openCache opens a cache and looks at what is there. What was being written
// when the last process died is removed.
func openCache(dir string, limit int64) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	c := &cache{dir: dir, limit: limit, entries: map[blob]*list.Element{}, used: list.New(), slots: make(chan struct{}, fetchesAtOnce)}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	type found struct {
		entry
		last time.Time
	}
	var all []found
	for _, f := range files {
		b, ok := blobOf(f.Name())
		info, err := f.Info()
		switch {
		case err != nil:
		case ok && info.Mode().IsRegular():
			all = append(all, found{entry{blob: b, size: info.Size()}, info.ModTime()})
		case strings.HasPrefix(f.Name(), partial):
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(b.last.UnixNano(), a.last.UnixNano()) })
	for _, f := range all {
		c.entries[f.blob] = c.used.PushBack(&f.entry)
		c.bytes += f.size
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.makeRoom(0)
	return c, nil
}

// size returns how many bytes the cache holds.
func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// A fetch writes content to a file.
type fetch func(ctx context.Context, w io.Writer) error

var (
	errContent = errors.New("the content is not what its name says")
	errTooMuch = errors.New("more was sent than there may be")
)

// get opens content, fetching it first when it is not there. Of many that want
// the same one fetches, and the others wait; who stops waiting does not stop
// the fetching.
func (c *cache) get(ctx context.Context, b blob, size int64, fetch fetch) (*os.File, error) {
	for range 2 { // it may be evicted between the fetching and the opening
		if f, ok := c.open(b); ok {
			return f, nil
		}
		done := c.flights.DoChan(b.name(), func() (any, error) {
			return nil, c.fill(context.WithoutCancel(ctx), b, size, fetch)
		})
		select {
		case r := <-done:
			if r.Err != nil {
				return nil, r.Err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("%s does not stay in the cache: is it too small?", b.name())
}

// open returns content that is there, and is the very file that was checked.
func (c *cache) open(b blob) (*os.File, bool) {
	c.mu.Lock()
	el, ok := c.entries[b]
	tag := ""
	if ok {
		tag = el.Value.(*entry).tag //nolint:forcetypeassert // nothing else is in the list
		c.used.MoveToFront(el)
	}
	c.mu.Unlock()
	if tag == "" {
		return nil, false
	}
	f, err := os.Open(filepath.Join(c.dir, b.name()))
	if err != nil {
		c.drop(b) // somebody removed it
		return nil, false
	}
	info, err := f.Stat()
	if err != nil || bootfile.Tag(info) != tag { // somebody wrote to it
		_ = f.Close()
		c.tag(b, "")
		return nil, false
	}
	c.touch(b, f, info)
	return f, true
}

// tag notes which file it was whose content was checked.
func (c *cache) tag(b blob, tag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[b]; ok {
		el.Value.(*entry).tag = tag //nolint:forcetypeassert // nothing else is in the list
	}
}

// touch notes on disk that a file was used, for the order after a restart.
func (c *cache) touch(b blob, f *os.File, info fs.FileInfo) {
	now := time.Now()
	if now.Sub(info.ModTime()) <= time.Hour || os.Chtimes(f.Name(), now, now) != nil {
		return
	}
	if info, err := f.Stat(); err == nil {
		c.tag(b, bootfile.Tag(info))
	}
}

// fill makes content be there and checked: what an earlier process left is
// read once, all else is fetched.
func (c *cache) fill(ctx context.Context, b blob, size int64, fetch fetch) error {
	c.mu.Lock()
	_, ok := c.entries[b]
	c.mu.Unlock()
	if ok {
		if tag, err := checkFile(filepath.Join(c.dir, b.name()), b); err == nil {
			c.tag(b, tag)
			return nil
		}
		c.drop(b)
		_ = os.Remove(filepath.Join(c.dir, b.name()))
	}
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	c.mu.Lock()
	c.makeRoom(size)
	c.mu.Unlock()
	n, tag, err := c.write(ctx, b, fetch)
	if errors.Is(err, syscall.ENOSPC) { // others fill the disk too: give half of ours back
		c.mu.Lock()
		c.makeRoom(max(size, c.limit-c.bytes/2))
		c.mu.Unlock()
		n, tag, err = c.write(ctx, b, fetch)
	}
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		c.sick.Store(&err)
	}
	if err != nil {
		return err
	}
	c.sick.Store(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[b] = c.used.PushFront(&entry{blob: b, size: n, tag: tag})
	c.bytes += n
	c.makeRoom(0)
	return nil
}

// failure says why the disk takes nothing; nil when it did the last time.
func (c *cache) failure() error {
	if err := c.sick.Load(); err != nil {
		return *err
	}
	return nil
}

// write fetches content into a file beside the others, checks it as it comes,
// and gives it its name when it is whole.
func (c *cache) write(ctx context.Context, b blob, fetch fetch) (size int64, tag string, err error) {
	f, err := os.CreateTemp(c.dir, partial)
	if err != nil {
		return 0, "", fmt.Errorf("cache %s: %w", b.name(), err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	counted := &countingWriter{w: f, most: c.limit, total: &c.fetched}
	if b.kind == chunk {
		counted.most = min(maxUnpacked, c.limit)
	}
	err = fetch(ctx, counted)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, "", fmt.Errorf("cache %s: %w", b.name(), err)
	}
	if tag, err = checkFile(f.Name(), b); err != nil {
		return 0, "", fmt.Errorf("cache %s: %w", b.name(), err)
	}
	return counted.n, tag, os.Rename(f.Name(), filepath.Join(c.dir, b.name()))
}

// A countingWriter takes so many bytes at most: who sends more, sends something
// else.
type countingWriter struct {
	w     io.Writer
	n     int64
	most  int64
	total *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.n+int64(len(p)) > w.most {
		return 0, errTooMuch
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	w.total.Add(int64(n))
	return n, err
}

// makeRoom drops what was not used for longest until so many bytes more have
// room; the caller holds mu. Files that are being sent stay readable.
func (c *cache) makeRoom(more int64) {
	for c.bytes+more > c.limit && c.used.Len() > 0 {
		e := c.used.Back().Value.(*entry) //nolint:forcetypeassert // nothing else is in the list
		c.forget(e.blob)
		_ = os.Remove(filepath.Join(c.dir, e.blob.name()))
	}
}

func (c *cache) drop(b blob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(b)
}

func (c *cache) forget(b blob) {
	if el, ok := c.entries[b]; ok {
		c.bytes -= el.Value.(*entry).size //nolint:forcetypeassert // nothing else is in the list
		c.used.Remove(el)
		delete(c.entries, b)
	}
}

// maxUnpacked bounds what a chunk may become: image chunks have 256 KiB.
const maxUnpacked = 64 << 20

// checkFile compares a file with the name that it shall have, and says which
// file that was.
func checkFile(path string, b blob) (tag string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	var r io.Reader = f
	if b.kind == chunk {
		d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxUnpacked))
		if err != nil {
			return "", err
		}
		defer d.Close()
		h, r = sha512.New512_256(), io.LimitReader(d, maxUnpacked)
	}
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("%w: %w", errContent, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != b.id {
		return "", errContent
	}
	return bootfile.Tag(info), nil
}
