// Package chunk fetches the pieces of an image from one or several sources,
// unpacks them and checks them against their names. Sources may be away for
// minutes; what they send is not believed.
package chunk

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

const (
	attempts = 4                // how often a chunk may come broken, over all sources
	oneTry   = 60 * time.Second // for one chunk; they are small
	patience = 30 * time.Minute // without a single good chunk
)

// A Fetcher fetches chunks. All goroutines that write one image share it.
type Fetcher struct {
	bases     []string
	client    *http.Client
	warn      func(text string)
	unpackers sync.Pool

	best     atomic.Int32 // source that answered last
	lastGood atomic.Int64 // when, in Unix nanoseconds
}

// New returns a Fetcher for sources in order of preference; connections says
// how many requests are under way at once. What goes wrong and is tried again
// is told to warn, which may be nil.
func New(bases []string, connections int, warn func(text string)) *Fetcher {
	if warn == nil {
		warn = func(string) {}
	}
	f := &Fetcher{bases: bases, warn: warn, client: &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   connections,
		DisableCompression:    true, // they are packed already
		ResponseHeaderTimeout: 20 * time.Second,
		IdleConnTimeout:       time.Minute,
	}}}
	f.lastGood.Store(time.Now().UnixNano())
	return f
}

// Close drops the idle connections.
func (f *Fetcher) Close() { f.client.CloseIdleConnections() }

// errCorrupt and errMissing are answers, all other errors are a source that
// is out of reach.
var (
	errCorrupt = errors.New("content is not what its name says")
	errMissing = errors.New("not found")
)

// Fetch fills p with the chunk. It tries all sources, one after the other:
// for long while they are out of reach, a few times while they answer wrong.
func (f *Fetcher) Fetch(ctx context.Context, c api.Chunk, p []byte) error {
	return f.fetch(ctx, c, p, nil)
}

// fetch is Fetch; keep, unless nil, is called with the chunk as it came,
// packed. It must not hold on to it.
func (f *Fetcher) fetch(ctx context.Context, c api.Chunk, p []byte, keep func(packed []byte)) error {
	if len(f.bases) == 0 {
		return fault.Errorf(fault.ImageSource, "chunk %s: no source was named", c.ID)
	}
	var delay retry.Delay
	var wrong, tries int
	var last error
	for {
		source := (int(f.best.Load()) + tries) % len(f.bases)
		err := f.try(ctx, f.bases[source], c, p, keep)
		if err == nil {
			f.best.Store(int32(source)) // a handful of sources
			f.lastGood.Store(time.Now().UnixNano())
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tries++
		if errors.Is(err, errCorrupt) || errors.Is(err, errMissing) {
			wrong++
			last = err
		}
		if wrong >= attempts {
			return giveUp(c, tries, last)
		}
		if time.Since(time.Unix(0, f.lastGood.Load())) > patience {
			return fault.Errorf(fault.ImageSource, "chunk %s: no source answered for %v: %w", c.ID, patience, err)
		}
		f.warn(fmt.Sprintf("chunk %.12s from %s: %v; trying again", c.ID, f.bases[source], err))
		if tries%len(f.bases) != 0 {
			continue // the next source may be better
		}
		if err := retry.Pause(ctx, delay.Next()); err != nil {
			return err
		}
	}
}

func giveUp(c api.Chunk, tries int, last error) error {
	code := fault.ChunkCorrupt
	if errors.Is(last, errMissing) {
		code = fault.ChunkMissing
	}
	return fault.Errorf(code, "chunk %s at offset %d: tried %d times: %w", c.ID, c.Offset, tries, last)
}

func (f *Fetcher) try(ctx context.Context, base string, c api.Chunk, p []byte, keep func([]byte)) error {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	url := strings.TrimSuffix(base, "/") + "/" + fileOf(c.ID)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err) // no such URL can be
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // read to its end or given up
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		_, _ = io.CopyN(io.Discard, resp.Body, 4096) // keeps the connection
		return errMissing
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %s", resp.Status)
	}
	u, err := f.unpacker()
	if err != nil {
		return err
	}
	defer f.unpackers.Put(u)
	u.packed.Reset()
	if _, err := u.packed.ReadFrom(io.LimitReader(resp.Body, mostPacked(c))); err != nil {
		return err
	}
	if err := u.unpack(c, p); err != nil {
		return err
	}
	if keep != nil {
		keep(u.packed.Bytes())
	}
	return nil
}

// fileOf is where a chunk is below the base URL of a source.
func fileOf(id string) string { return id[:4] + "/" + id + ".cacnk" }

// mostPacked is more than a chunk can be when it is packed.
func mostPacked(c api.Chunk) int64 { return c.Size + c.Size/8 + 4096 }

// An unpacker decompresses chunks, one at a time. Its memory is used again.
type unpacker struct {
	packed  bytes.Buffer
	decoder *zstd.Decoder
}

// unpack decompresses into p, whatever the packed text says about its size,
// and checks the result.
func (u *unpacker) unpack(c api.Chunk, p []byte) error {
	out, err := u.decoder.DecodeAll(u.packed.Bytes(), p[:0:len(p)])
	if err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if int64(len(out)) != c.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", errCorrupt, len(out), c.Size)
	}
	if sum := sha512.Sum512_256(out); hex.EncodeToString(sum[:]) != c.ID {
		return errCorrupt
	}
	copy(p, out) // the same bytes, unless the decoder wanted another place
	return nil
}

// unpacker returns one that works in the caller's goroutine and never makes
// more out of what it gets than there is room for.
func (f *Fetcher) unpacker() (*unpacker, error) {
	if u, ok := f.unpackers.Get().(*unpacker); ok {
		return u, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
	return &unpacker{decoder: d}, err
}
