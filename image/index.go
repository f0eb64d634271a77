package image

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/folbricht/desync"

	"github.com/rackstage/provision/fleet"
)

// An Index says what an image is made of, in order and without gaps.
type Index struct {
	Size   int64
	Digest string // sha256:… of the raw image
	Chunks []Chunk
}

// A Chunk is one stretch of an image.
type Chunk struct {
	ID           string // SHA512/256 of what is in it, in hex
	Offset, Size int64
	Zero         bool // zeros only: not stored, not sent
}

// Chunks of 1 MiB on average: small enough that a broken connection costs
// little and a changed package changes little, large enough that a node asks
// some hundred times for a whole system, not tens of thousands.
const (
	minChunk = 256 << 10
	avgChunk = 1 << 20
	maxChunk = 4 << 20
)

const chunkExt = ".cacnk"

func indexFile(digest string) string { return strings.TrimPrefix(digest, "sha256:") + ".caibx" }

// Index returns what the image of that name is made of.
func (s *Store) Index(name string) (Index, error) {
	r, err := s.read(name)
	if err != nil {
		return Index{}, err
	}
	text, err := os.ReadFile(s.path("indexes", indexFile(r.Digest)))
	if err != nil {
		return Index{}, damaged(name, fmt.Errorf("read index: %w", err))
	}
	index, err := desync.IndexFromReader(bytes.NewReader(text))
	if err != nil {
		return Index{}, damaged(name, fmt.Errorf("read index: %w", err))
	}
	if index.Length() != r.Size {
		return Index{}, damaged(name, fmt.Errorf("index is of %d bytes, image has %d", index.Length(), r.Size))
	}
	i := Index{Size: r.Size, Digest: r.Digest, Chunks: make([]Chunk, len(index.Chunks))}
	for n, c := range index.Chunks {
		id := c.ID.String()
		i.Chunks[n] = Chunk{ID: id, Offset: int64(c.Start), Size: int64(c.Size), Zero: slices.Contains(r.Zero, id)}
	}
	return i, nil
}

func damaged(name string, err error) error {
	return &fleet.Error{
		Kind: fleet.Internal, Op: "read", On: "image " + name, Err: err,
		Hint: "build or import the image again",
	}
}

// ChunkPath returns the file of a chunk, which holds it zstd-compressed. It
// takes an id as [Chunk] has it and nothing else: ids come from the network.
func (s *Store) ChunkPath(id string) (string, error) {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fleet.Invalidf("chunk id", "ask for a chunk by the 64 hex digits of an index", nil)
	}
	name := s.path("chunks", id[:4], id+chunkExt)
	about, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !about.Mode().IsRegular() {
		return "", &fleet.Error{Kind: fleet.NotFound, On: "chunk " + id, Err: errors.New("not in this store")}
	}
	if err != nil {
		return "", fmt.Errorf("find chunk %s: %w", id, err)
	}
	return name, nil
}
