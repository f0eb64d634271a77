package disk

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// Chunks is where the pieces of an image come from.
type Chunks interface {
	// Fetch fills p, which has the chunk's size, and has checked it. It is
	// called from several goroutines at once.
	Fetch(ctx context.Context, c api.Chunk, p []byte) error
}

// A Writer writes an image to a disk.
//
// Chunks are fetched and unpacked in parallel and in order of their offsets,
// and gathered in windows of one MiB, which go to the disk whole: chunks
// start at any byte, disks want blocks. The windows that hold the partition
// table and its copy at the end are kept back until everything else is on
// the disk: a disk that was written by half does not boot.
type Writer struct {
	Target   Target
	Chunks   Chunks
	Workers  int              // 0: two more than there are processors
	Progress func(done int64) // bytes; may be nil; called from several goroutines
}

const window = mib

// Write writes the image and returns when it is on the disk.
func (w Writer) Write(ctx context.Context, ix api.ImageIndex) error {
	if err := CheckIndex(ix, w.Target.Size()); err != nil {
		return err
	}
	if w.Workers == 0 {
		w.Workers = runtime.NumCPU() + 2
	}
	// What boots now must not boot when we are interrupted.
	if err := w.Target.Zero(0, min(window, w.Target.Size())); err != nil {
		return fault.Errorf(fault.DiskIO, "clear the partition table: %w", err)
	}
	run := &writing{Writer: w, index: ix, open: map[int64]*span{}}
	if err := run.allocate(); err != nil {
		return fault.Errorf(fault.DiskIO, "get memory: %w", err)
	}
	defer run.free()
	if err := run.everything(ctx); err != nil {
		return err
	}
	if err := run.release(); err != nil {
		return err
	}
	return run.verifyFirst()
}

// A writing is one run of a Writer.
type writing struct {
	Writer
	index   api.ImageIndex
	open    map[int64]*span // by number; the dispatcher's alone
	buffers chan []byte
	all     [][]byte
	done    atomic.Int64

	mu   sync.Mutex
	held []*span // complete, to be written at the end
}

// A span is one window of the disk on its way.
type span struct {
	off  int64
	buf  []byte
	left atomic.Int64 // bytes still to come
}

// A job is a piece of the image and the windows that it is part of; whole
// windows of zeros have none.
type job struct {
	chunk api.Chunk
	spans []*span
}

// allocate gets the buffers: enough that all workers are busy, and that the
// largest chunk finds room beside what is held back.
func (w *writing) allocate() error {
	var largest int64
	for _, c := range w.index.Chunks {
		if !c.Zero {
			largest = max(largest, c.Size)
		}
	}
	n := 2*w.Workers + int(largest/window) + 6
	w.buffers = make(chan []byte, n)
	for range n {
		b, err := newBuffer(window)
		if err != nil {
			w.free()
			return err
		}
		w.all = append(w.all, b)
		w.buffers <- b
	}
	return nil
}

func (w *writing) free() {
	for _, b := range w.all {
		freeBuffer(b)
	}
}

func (w *writing) everything(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	g.Go(func() error {
		defer close(jobs)
		return w.dispatch(ctx, jobs)
	})
	for range w.Workers {
		g.Go(func() error { return w.work(ctx, jobs) })
	}
	return g.Wait()
}

// dispatch sends the chunks to the workers, each with the windows that it is
// part of.
func (w *writing) dispatch(ctx context.Context, jobs chan<- job) error {
	for _, c := range pieces(w.index) {
		j := job{chunk: c}
		if !wholeWindows(c) {
			var err error
			if j.spans, err = w.spansOf(ctx, c); err != nil {
				return err
			}
		}
		select {
		case jobs <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wholeWindows reports whether a piece is zeros that no window has to be
// gathered for: the disk is told to hold zeros there.
func wholeWindows(c api.Chunk) bool {
	return c.Zero && c.Offset%window == 0 && c.Size%window == 0
}

// pieces joins runs of zero chunks and cuts them anew: at most 64 whole
// windows together, and what is left before and after.
func pieces(ix api.ImageIndex) []api.Chunk {
	var out []api.Chunk
	var from, to int64 // of the run of zeros before the chunk
	flush := func() {
		for from < to {
			next := min(to, (from/window+1)*window)
			if from%window == 0 && to-from >= window {
				next = min(to/window*window, from+64*window)
			}
			out = append(out, api.Chunk{Offset: from, Size: next - from, Zero: true})
			from = next
		}
	}
	for _, c := range ix.Chunks {
		if !c.Zero {
			flush()
			out = append(out, c)
			from = c.Offset + c.Size
		}
		to = c.Offset + c.Size
	}
	flush()
	return out
}

// spansOf returns the windows that a chunk is part of, opening those that
// are not open yet. It waits for memory.
func (w *writing) spansOf(ctx context.Context, c api.Chunk) ([]*span, error) {
	var out []*span
	for n := c.Offset / window; n*window < c.Offset+c.Size; n++ {
		s := w.open[n]
		if s == nil {
			s = &span{off: n * window}
			s.left.Store(min(window, w.index.Size-s.off))
			select {
			case s.buf = <-w.buffers:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			w.open[n] = s
			delete(w.open, n-2) // chunks come in order: nobody asks for it again
		}
		out = append(out, s)
	}
	return out, nil
}

func (w *writing) work(ctx context.Context, jobs <-chan job) error {
	var scratch []byte
	for j := range jobs {
		switch {
		case j.chunk.Zero && j.spans == nil:
			if err := w.zero(j.chunk); err != nil {
				return err
			}
		case !j.chunk.Zero:
			scratch = slices.Grow(scratch[:0], int(j.chunk.Size))[:j.chunk.Size]
			if err := w.Chunks.Fetch(ctx, j.chunk, scratch); err != nil {
				return err
			}
		}
		for _, s := range j.spans {
			if err := w.fill(s, j.chunk, scratch); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill puts a chunk's part into a window, and the window onto the disk when
// it is complete.
func (w *writing) fill(s *span, c api.Chunk, data []byte) error {
	from, to := max(s.off, c.Offset), min(s.off+window, c.Offset+c.Size)
	part := s.buf[from-s.off : to-s.off]
	if c.Zero {
		clear(part)
	} else {
		copy(part, data[from-c.Offset:])
	}
	if s.left.Add(from-to) > 0 {
		return nil
	}
	if w.keepBack(s) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held = append(w.held, s)
		return nil
	}
	return w.put(s)
}

// keepBack holds the windows with the partition table and with its copy,
// from which firmware and partition tools would restore it.
func (w *writing) keepBack(s *span) bool {
	const copied = 33 * 4096 // header and entries, with large blocks
	return s.off == 0 || s.off+window > w.index.Size-copied
}

// put writes a complete window. The last one is filled up with zeros to
// whole blocks.
func (w *writing) put(s *span) error {
	n := min(window, w.index.Size-s.off)
	padded := min((n+4095)&^4095, w.Target.Size()-s.off)
	clear(s.buf[n:padded])
	if _, err := w.Target.WriteAt(s.buf[:padded], s.off); err != nil {
		return fault.Errorf(fault.DiskIO, "write %d bytes at %d: %w", padded, s.off, err)
	}
	w.buffers <- s.buf
	w.advance(n)
	return nil
}

func (w *writing) zero(c api.Chunk) error {
	if err := w.Target.Zero(c.Offset, c.Size); err != nil {
		return fault.Errorf(fault.DiskIO, "write %d zeros at %d: %w", c.Size, c.Offset, err)
	}
	w.advance(c.Size)
	return nil
}

func (w *writing) advance(n int64) {
	done := w.done.Add(n)
	if w.Progress != nil {
		w.Progress(done)
	}
}

// release writes what was kept back: the end first, the head of the disk
// when all else is safe.
func (w *writing) release() error {
	if err := w.sync(); err != nil {
		return err
	}
	for _, head := range []bool{false, true} {
		for _, s := range w.held {
			if (s.off == 0) != head {
				continue
			}
			if err := w.put(s); err != nil {
				return err
			}
		}
		if err := w.sync(); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) sync() error {
	if err := w.Target.Sync(); err != nil {
		return fault.Errorf(fault.DiskIO, "sync: %w", err)
	}
	return nil
}

// verifyFirst reads the head of the disk back: a disk that drops writes
// without a word is found out here and not at the next boot.
func (w *writing) verifyFirst() error {
	c := w.index.Chunks[0]
	if c.Zero || c.Size > window {
		return nil
	}
	buf := <-w.buffers
	padded := min((c.Size+4095)&^4095, w.Target.Size())
	if _, err := w.Target.ReadAt(buf[:padded], 0); err != nil {
		return fault.Errorf(fault.DiskIO, "read the first chunk back: %w", err)
	}
	sum := sha512.Sum512_256(buf[:c.Size])
	if got := hex.EncodeToString(sum[:]); got != c.ID {
		return fault.Errorf(fault.DiskIO, "the disk gives back something else than was written to its first %d bytes", c.Size)
	}
	return nil
}
