package image

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/folbricht/desync"
	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/fleet"
)

// Verify reads all chunks of an image and returns the ids of those that are
// missing or are not what their name says; err tells the same to a person.
func (s *Store) Verify(ctx context.Context, name string) (bad []string, err error) {
	index, err := s.Index(name)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, c := range index.Chunks {
		if !c.Zero {
			ids[c.ID] = true
		}
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for id := range ids {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if s.verifyChunk(id) != nil {
				mu.Lock()
				bad = append(bad, id)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("verify image %s: %w", name, err)
	}
	slices.Sort(bad)
	if len(bad) > 0 {
		err = &fleet.Error{
			Kind: fleet.Internal, Op: "verify", On: "image " + name,
			Err:  fmt.Errorf("%d of %d chunks are missing or damaged, first %s", len(bad), len(ids), bad[0]),
			Hint: "build or import the image again: sound chunks are kept, the others written anew",
		}
	}
	return bad, err
}

func (s *Store) verifyChunk(id string) error {
	name, err := s.ChunkPath(id)
	if err != nil {
		return err
	}
	packed, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read chunk: %w", err)
	}
	return CheckChunk(id, packed)
}

// CheckChunk says whether the compressed bytes are those of the chunk of that id.
func CheckChunk(id string, packed []byte) error {
	want, err := desync.ChunkIDFromString(id)
	if err != nil {
		return fmt.Errorf("chunk %s: %w", id, err)
	}
	if _, err := desync.NewChunkFromStorage(want, packed, desync.Converters{desync.Compressor{}}, false); err != nil {
		return fmt.Errorf("chunk %s: %w", id, err)
	}
	return nil
}
