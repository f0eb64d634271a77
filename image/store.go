package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Store keeps raw images as chunks named by what is in them.
//
//	chunks/ab12/ab12….cacnk   the chunks, zstd, as desync lays them out
//	indexes/<digest>.caibx    which chunks an image is made of, as desync writes it
//	images/<name>.json        an image by its name: [Info] and the digest
//
// An image is there when its file in images/ is, which is written last and in
// one piece: a half-made image is never listed, whenever we were stopped.
type Store struct {
	// Allow are networks that images may be fetched from although they are
	// this machine's or link-local.
	Allow []netip.Prefix
	// MaxBytes is the size, unpacked, that an imported image may have; 0 is 64 GiB.
	MaxBytes int64

	dir string
}

// An Info tells about one image of a store.
type Info struct {
	Name        string
	Kind        string    // "debian-12" for one that we built, "raw" for an imported one
	Digest      string    // sha256:… of the raw image
	Size        int64     // bytes of the raw image: the least that a disk must have
	StoredBytes int64     // bytes of its chunks as they are stored and sent, each counted once
	Chunks      int       // chunks that a node writes, those of zeros not counted
	Packages    []string  // name=version, when known
	Created     time.Time // when it came into the store
}

// record is an Info as it is written to disk.
type record struct {
	Info
	Zero []string // ids of chunks that are zeros only: known, not stored
}

// Open opens the store in a folder and makes it when it is not there.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{dir: dir}
	for _, d := range []string{"chunks", "indexes", "images", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, &fleet.Error{
				Kind: fleet.Internal, Op: "open image store", On: dir, Err: err,
				Hint: "make the folder writable for the user that runs provision",
			}
		}
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func checkName(name string) error {
	if validName.MatchString(name) {
		return nil
	}
	return fleet.Invalidf(fmt.Sprintf("image name %q", name),
		"use up to 63 of a-z, 0-9, dot, dash and underscore, with a letter or digit first", nil)
}

// List returns the images of the store, by name.
func (s *Store) List() ([]Info, error) {
	files, err := os.ReadDir(s.path("images"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var list []Info
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || checkName(name) != nil {
			continue
		}
		info, err := s.Get(name)
		if fleet.KindOf(err) == fleet.NotFound {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// Get returns one image.
func (s *Store) Get(name string) (Info, error) {
	r, err := s.read(name)
	return r.Info, err
}

func (s *Store) read(name string) (record, error) {
	if err := checkName(name); err != nil {
		return record{}, err
	}
	text, err := os.ReadFile(s.path("images", name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, &fleet.Error{
			Kind: fleet.NotFound, On: "image " + name,
			Err: errors.New("no such image"), Hint: "list what there is with: provision images list",
		}
	}
	if err != nil {
		return record{}, fmt.Errorf("read image %s: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("read image %s: %w", name, err)
	}
	return r, nil
}

// Remove takes an image out of the store, and the chunks that no other image
// has. The caller sees to it that no node is being installed from it.
func (s *Store) Remove(ctx context.Context, name string) error {
	return s.locked(ctx, func() error {
		if _, err := s.read(name); err != nil {
			return err
		}
		if err := os.Remove(s.path("images", name+".json")); err != nil {
			return fmt.Errorf("remove image %s: %w", name, err)
		}
		return s.sweep()
	})
}

// sweep removes the indexes and chunks of no listed image, and what a stopped
// process left behind.
func (s *Store) sweep() error {
	images, err := s.List()
	if err != nil {
		return err
	}
	indexes, chunks := map[string]bool{}, map[string]bool{}
	for _, i := range images {
		index, err := s.Index(i.Name)
		if err != nil {
			return err // rather keep too much
		}
		indexes[indexFile(i.Digest)] = true
		for _, c := range index.Chunks {
			chunks[c.ID+chunkExt] = true
		}
	}
	return errors.Join(
		removeExcept(s.path("chunks"), chunks),
		removeExcept(s.path("indexes"), indexes),
		removeExcept(s.path("tmp"), nil),
	)
}

func removeExcept(dir string, keep map[string]bool) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || keep[d.Name()] {
			return err
		}
		return os.Remove(name)
	})
}

// locked runs do while no other process adds to or removes from the store.
// Readers need no lock.
func (s *Store) locked(ctx context.Context, do func() error) error {
	return withLock(ctx, s.path("lock"), do)
}
