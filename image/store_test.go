package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/folbricht/desync"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) {
	// It comes with desync's access to cloud storage and starts by itself.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// noise is n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	r := rand.NewChaCha8(key)
	if _, err := r.Read(b); err != nil {
		panic(err) // it never fails
	}
	return b
}

// smallImage is a raw image as they are: data, a long stretch of zeros, data.
func smallImage(seed uint64) []byte {
	return slices.Concat(noise(seed, 3*mib), make([]byte, 20*mib), noise(seed+1, 3*mib))
}

func imageFile(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addImage(t *testing.T, s *Store, name string, content []byte) Info {
	t.Helper()
	info, err := s.Add(t.Context(), name, imageFile(t, content), Meta{Kind: "debian-12", Packages: []string{"dash=1"}})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// assemble writes an image from its chunks as a node does.
func assemble(t *testing.T, s *Store, index Index) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, c := range index.Chunks {
		if c.Offset != int64(out.Len()) {
			t.Fatalf("chunk %s is at %d, want %d", c.ID, c.Offset, out.Len())
		}
		if c.Zero {
			out.Write(make([]byte, c.Size))
			continue
		}
		name, err := s.ChunkPath(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := desync.Decompress(nil, packed)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
	}
	return out.Bytes()
}

func TestAnImageComesBackAsItWas(t *testing.T) {
	s, content := openStore(t), smallImage(1)
	info := addImage(t, s, "debian-12", content)
	if want := "sha256:" + hexDigest(content); info.Digest != want {
		t.Errorf("digest = %s, want %s", info.Digest, want)
	}
	index, err := s.Index("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(assemble(t, s, index), content) {
		t.Error("the chunks do not give the image")
	}
	if index.Size != int64(len(content)) || index.Digest != info.Digest {
		t.Errorf("index is of %d bytes, %s; want %d, %s", index.Size, index.Digest, len(content), info.Digest)
	}
	got, err := s.Get("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(info, got); diff != "" {
		t.Errorf("Get differs from what Add said:\n%s", diff)
	}
}

func TestZerosAreKnownAndNotStored(t *testing.T) {
	s := openStore(t)
	info := addImage(t, s, "debian-12", smallImage(1))
	index, err := s.Index("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	var zero int64
	for _, c := range index.Chunks {
		if !c.Zero {
			continue
		}
		zero += c.Size
		if _, err := s.ChunkPath(c.ID); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("ChunkPath of a chunk of zeros = %v, want not_found", err)
		}
	}
	if zero < 12*mib {
		t.Errorf("%d MiB of 20 MiB of zeros are known as such, want at least 12", zero/mib)
	}
	if limit := int64(14 * mib); info.StoredBytes > limit {
		t.Errorf("stored %d bytes of 6 MiB of noise and zeros, want at most %d", info.StoredBytes, limit)
	}
}

func TestImagesShareWhatTheyHaveInCommon(t *testing.T) {
	s := openStore(t)
	common := noise(7, 12*mib)
	addImage(t, s, "one", common)
	before := countChunks(t, s)
	addImage(t, s, "two", slices.Concat(common, noise(8, mib)))
	if added := countChunks(t, s) - before; added > 4 {
		t.Errorf("an image that differs in its last MiB added %d chunks, want at most 4", added)
	}
}

func countChunks(t *testing.T, s *Store) int {
	t.Helper()
	found, err := filepath.Glob(s.path("chunks", "*", "*"+chunkExt))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestRemovingAnImageKeepsTheChunksOfOthers(t *testing.T) {
	s, content := openStore(t), smallImage(1)
	addImage(t, s, "one", content)
	addImage(t, s, "two", slices.Concat(content, noise(9, 5*mib)))
	if err := s.Remove(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if bad, err := s.Verify(t.Context(), "one"); err != nil {
		t.Errorf("after removing another image: %v (%d chunks)", err, len(bad))
	}
	if err := s.Remove(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if n := countChunks(t, s); n != 0 {
		t.Errorf("%d chunks are left in an empty store", n)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v; want none", list, err)
	}
}

func TestADamagedChunkIsFoundAndHealedByAddingAgain(t *testing.T) {
	tests := map[string]func(name string) error{
		"other bytes": func(name string) error {
			packed, err := desync.Compress([]byte("not what the name says"))
			if err != nil {
				return err
			}
			return os.WriteFile(name, packed, 0o644)
		},
		"no zstd at all": func(name string) error { return os.WriteFile(name, []byte("junk"), 0o644) },
		"cut short":      func(name string) error { return os.Truncate(name, 100) },
		"empty":          func(name string) error { return os.Truncate(name, 0) },
		"gone":           os.Remove,
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			s, content := openStore(t), smallImage(3)
			addImage(t, s, "debian-12", content)
			index, err := s.Index("debian-12")
			if err != nil {
				t.Fatal(err)
			}
			victim := index.Chunks[1]
			file, err := s.ChunkPath(victim.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
			bad, err := s.Verify(t.Context(), "debian-12")
			if err == nil || !slices.Equal(bad, []string{victim.ID}) {
				t.Fatalf("Verify = %v, %v; want chunk %s", bad, err, victim.ID)
			}
			addImage(t, s, "debian-12", content)
			if bad, err := s.Verify(t.Context(), "debian-12"); err != nil {
				t.Errorf("after adding again: %v, %v", bad, err)
			}
		})
	}
}

func TestAHalfMadeImageIsNotListed(t *testing.T) {
	s := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Add(ctx, "debian-12", imageFile(t, smallImage(1)), Meta{}); err == nil {
		t.Fatal("Add with an ended context went well")
	}
	// What a kill at the worst moment leaves: chunks, an index, a temporary file.
	for _, name := range []string{"images/.tmp-123", "indexes/feed.caibx", "tmp/raw-1"} {
		if err := os.WriteFile(s.path(name), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("List = %v, %v; want none", list, err)
	}
	addImage(t, s, "debian-12", smallImage(1))
	if err := s.Remove(t.Context(), "debian-12"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path("tmp/raw-1")); err == nil {
		t.Error("what a stopped process left is still there after a removal")
	}
}

func TestAnImageIsReplacedInOneStep(t *testing.T) {
	s := openStore(t)
	old := addImage(t, s, "debian-12", smallImage(1))
	oldIndex, err := s.Index("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	now := addImage(t, s, "debian-12", smallImage(5))
	if now.Digest == old.Digest {
		t.Fatal("two different images have one digest")
	}
	index, err := s.Index("debian-12")
	if err != nil || index.Digest != now.Digest {
		t.Errorf("Index = %s, %v; want %s", index.Digest, err, now.Digest)
	}
	if got := hexDigest(assemble(t, s, oldIndex)); "sha256:"+got != old.Digest {
		t.Error("a node in the middle of the old image cannot finish it")
	}
}

func TestOnlyChunkIDsGiveFiles(t *testing.T) {
	s := openStore(t)
	addImage(t, s, "debian-12", smallImage(1))
	for _, id := range []string{
		"", "abcd", "../../../etc/passwd", strings.Repeat("A", 64), strings.Repeat("g", 64),
		strings.Repeat("a", 63) + "/", strings.Repeat("a", 65), "..%2f" + strings.Repeat("a", 59),
	} {
		if _, err := s.ChunkPath(id); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("ChunkPath(%q) = %v, want invalid", id, err)
		}
	}
	if _, err := s.ChunkPath(strings.Repeat("a", 64)); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("ChunkPath of no chunk = %v, want not_found", err)
	}
}

func TestNamesThatAreNoNamesAreRefused(t *testing.T) {
	s := openStore(t)
	for _, name := range []string{"", "..", "../x", "a/b", ".hidden", "UPPER", "-x", strings.Repeat("a", 64), "a b"} {
		if _, err := s.Get(name); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("Get(%q) = %v, want invalid", name, err)
		}
		if _, err := s.Add(t.Context(), name, imageFile(t, noise(1, 512)), Meta{}); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("Add(%q) = %v, want invalid", name, err)
		}
	}
	if _, err := s.Get("debian-12"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("Get of no image = %v, want not_found", err)
	}
}

func TestWhatIsNoRawImageIsRefused(t *testing.T) {
	s := openStore(t)
	tests := map[string]string{
		"empty":           imageFile(t, nil),
		"half a sector":   imageFile(t, noise(1, 700)),
		"a folder":        t.TempDir(),
		"a device":        "/dev/zero",
		"not there":       filepath.Join(t.TempDir(), "nothing"),
		"wrong and known": imageFile(t, noise(1, 512)),
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Add(t.Context(), "x", file, Meta{Digest: "sha256:" + strings.Repeat("0", 64)}); err == nil {
				t.Error("Add went well, want an error")
			}
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("List = %v, %v; want none", list, err)
			}
		})
	}
}

func TestAnIndexIsOneThatDesyncReads(t *testing.T) {
	s := openStore(t)
	info := addImage(t, s, "debian-12", smallImage(1))
	f, err := os.Open(s.path("indexes", indexFile(info.Digest)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := desync.IndexFromReader(f)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(index.Index.ChunkSizeMin, index.Index.ChunkSizeAvg, index.Index.ChunkSizeMax)
	if want := fmt.Sprint(256<<10, 1<<20, 4<<20); got != want {
		t.Errorf("chunk sizes are %s, want %s", got, want)
	}
}
