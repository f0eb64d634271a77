package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/folbricht/desync"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// Meta is what is known of an image beside its bytes.
type Meta struct {
	Kind     string   // what it is: "debian-12"; empty is "raw"
	Packages []string // name=version
	Digest   string   // sha256:… that it must have; empty: whatever it has
}

// Add puts a raw image into the store under a name. An image that has the name
// already is replaced in one step; its chunks stay until something is removed,
// for the nodes that are writing them right now. Chunks that are there and
// sound are not written again, damaged ones are.
func (s *Store) Add(ctx context.Context, name, rawPath string, meta Meta) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	var info Info
	err := s.locked(ctx, func() error {
		var err error
		info, err = s.add(ctx, name, rawPath, meta)
		return err
	})
	return info, err
}

func (s *Store) add(ctx context.Context, name, rawPath string, meta Meta) (Info, error) {
	raw, err := openImage(rawPath)
	if err != nil {
		return Info{}, err
	}
	defer raw.Close()
	index, sum, chunks, err := s.chunk(ctx, raw)
	if err != nil {
		return Info{}, fmt.Errorf("add image %s: %w", name, err)
	}
	if meta.Digest != "" && meta.Digest != sum {
		return Info{}, wrongDigest(rawPath, sum, meta.Digest)
	}
	if meta.Kind == "" {
		meta.Kind = "raw"
	}
	r := record{
		Info: Info{
			Name: name, Kind: meta.Kind, Digest: sum, Size: index.Length(), StoredBytes: chunks.bytes,
			Chunks: chunks.written(index), Packages: meta.Packages, Created: time.Now().UTC(),
		},
		Zero: slices.Sorted(maps.Keys(chunks.zero)),
	}
	return r.Info, s.write(r, index)
}

// chunk cuts an image, stores the pieces and takes the digest in one reading.
// desync's own ChunkStream does not end its workers when the reading fails.
func (s *Store) chunk(ctx context.Context, raw io.Reader) (desync.Index, string, *chunkWriter, error) {
	local, err := desync.NewLocalStore(s.path("chunks"), desync.StoreOptions{})
	if err != nil {
		return desync.Index{}, "", nil, fmt.Errorf("open chunks: %w", err)
	}
	w := &chunkWriter{LocalStore: local, zero: map[string]bool{}, seen: map[string]bool{}}
	h := sha256.New()
	cutter, err := desync.NewChunker(io.TeeReader(raw, h), minChunk, avgChunk, maxChunk)
	if err != nil {
		return desync.Index{}, "", nil, fmt.Errorf("cut into chunks: %w", err)
	}
	chunks, err := cut(ctx, &cutter, w)
	if err != nil {
		return desync.Index{}, "", nil, fmt.Errorf("cut into chunks: %w", err)
	}
	index := desync.Index{
		Index: desync.FormatIndex{
			FeatureFlags: desync.CaFormatExcludeNoDump | desync.CaFormatSHA512256,
			ChunkSizeMin: minChunk, ChunkSizeAvg: avgChunk, ChunkSizeMax: maxChunk,
		},
		Chunks: chunks,
	}
	return index, "sha256:" + hex.EncodeToString(h.Sum(nil)), w, nil
}

// cut reads chunk after chunk; naming, packing and writing them is done by as
// many workers as there are processors.
func cut(ctx context.Context, from *desync.Chunker, to *chunkWriter) ([]desync.IndexChunk, error) {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	var found []*desync.IndexChunk
	err := func() error {
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			start, data, err := from.Next()
			if err != nil || len(data) == 0 {
				return err
			}
			c := &desync.IndexChunk{Start: start, Size: uint64(len(data))}
			found = append(found, c)
			workers.Go(func() (err error) {
				c.ID, err = to.put(data)
				return err
			})
		}
	}()
	if workErr := workers.Wait(); workErr != nil {
		return nil, workErr
	}
	if err != nil {
		return nil, err
	}
	chunks := make([]desync.IndexChunk, len(found))
	for i, c := range found {
		chunks[i] = *c
	}
	return chunks, nil
}

// write makes the image appear: chunks and index are on stable storage first.
func (s *Store) write(r record, index desync.Index) error {
	if err := writeFile(s.path("indexes", indexFile(r.Digest)), func(w io.Writer) error {
		_, err := index.WriteTo(w)
		return err
	}); err != nil {
		return err
	}
	if err := syncFiles(s.dir); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	if err := writeFile(s.path("images", r.Name+".json"), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	}); err != nil {
		return err
	}
	return syncFiles(s.dir)
}

// syncFiles brings all that was written to the file system of a folder to
// stable storage: one call instead of one for each of a thousand chunks.
func syncFiles(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// openImage opens a raw image, and refuses what is none.
func openImage(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.NotFound, Op: "open image", On: name, Err: err}
	}
	about, err := f.Stat()
	switch {
	case err != nil:
	case !about.Mode().IsRegular():
		err = errors.New("not a regular file")
	case about.Size() == 0:
		err = errors.New("empty")
	case about.Size()%512 != 0:
		err = fmt.Errorf("%d bytes are no whole number of sectors", about.Size())
	}
	if err != nil {
		f.Close()
		return nil, &fleet.Error{
			Kind: fleet.Invalid, Op: "open image", On: name, Err: err,
			Hint: "give a raw disk image; others can be made raw with: qemu-img convert -O raw",
		}
	}
	return f, nil
}

func wrongDigest(what, got, want string) error {
	return &fleet.Error{
		Kind: fleet.Invalid, Op: "check", On: what, Err: fmt.Errorf("it has %s, not %s", got, want),
		Hint: "fetch it again, and compare with what its maker publishes",
	}
}

// A chunkWriter is a store of chunks that leaves out zeros and does not trust
// what lies there already.
type chunkWriter struct {
	desync.LocalStore

	mu    sync.Mutex
	zero  map[string]bool
	seen  map[string]bool
	bytes int64
}

// put stores one chunk, unless it is zeros or there, and returns its name.
func (w *chunkWriter) put(data []byte) (desync.ChunkID, error) {
	c := desync.NewChunk(data)
	id := c.ID()
	if w.known(id) {
		return id, nil
	}
	if allZero(data) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.zero[id.String()] = true
		return id, nil
	}
	if _, err := w.GetChunk(id); err != nil { // it reads and checks: missing or damaged
		if err := w.StoreChunk(c); err != nil {
			return id, err
		}
	}
	return id, w.count(id)
}

func (w *chunkWriter) known(id desync.ChunkID) bool {
	name := id.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.zero[name] || w.seen[name]
}

func (w *chunkWriter) count(id desync.ChunkID) error {
	size, err := w.GetChunkSize(id)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[id.String()] {
		w.seen[id.String()] = true
		w.bytes += size
	}
	return nil
}

// written counts the chunks of an index that are not zeros.
func (w *chunkWriter) written(index desync.Index) int {
	n := 0
	for _, c := range index.Chunks {
		if !w.zero[c.ID.String()] {
			n++
		}
	}
	return n
}

var zeros = make([]byte, maxChunk)

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
