package disk

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A source has all chunks of an image in memory.
type source struct {
	data map[string][]byte
	fail map[string]error
}

func (s source) Fetch(ctx context.Context, c api.Chunk, p []byte) error {
	if err := s.fail[c.ID]; err != nil {
		return err
	}
	copy(p, s.data[c.ID])
	return ctx.Err()
}

// cut makes an index of raw with chunks of odd sizes up to most bytes.
func cut(raw []byte, most int) (api.ImageIndex, source) {
	r := rand.New(rand.NewPCG(1, 2))
	ix := api.ImageIndex{Name: "test", Size: int64(len(raw))}
	s := source{map[string][]byte{}, map[string]error{}}
	for at := 0; at < len(raw); {
		p := raw[at:min(len(raw), at+1+r.IntN(most))]
		sum := sha512.Sum512_256(p)
		id := hex.EncodeToString(sum[:])
		zero := bytes.Count(p, []byte{0}) == len(p)
		if !zero {
			s.data[id] = p
		}
		ix.Chunks = append(ix.Chunks, api.Chunk{ID: id, Offset: int64(at), Size: int64(len(p)), Zero: zero})
		at += len(p)
	}
	return ix, s
}

// content is an image of n bytes: data, with two long runs of zeros.
func content(n int) []byte {
	raw := make([]byte, n)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range raw {
		raw[i] = byte(r.Uint32()) | 1
	}
	clear(raw[min(n, 1<<20+777):min(n, 5<<20+99)])
	clear(raw[min(n, 7<<20):min(n, 8<<20)])
	return raw
}

// dirty is a disk file of n bytes that holds something else.
func dirty(t *testing.T, n int) (*File, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, bytes.Repeat([]byte{0xee}, n), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, name
}

func TestImageIsOnTheDiskByteForByte(t *testing.T) {
	tests := map[string]struct {
		size, disk, most int
	}{
		"small chunks":                     {10<<20 + 4096, 16 << 20, 50_000},
		"chunks larger than windows":       {12 << 20, 16 << 20, 5 << 20},
		"a disk of just the image's size":  {9 << 20, 9 << 20, 200_000},
		"an image that ends inside blocks": {3<<20 + 1234, 16 << 20, 70_000},
		"an image of less than a window":   {70_000, 1 << 20, 9_000},
		"zeros at the end":                 {8 << 20, 16 << 20, 100_000},
		"zeros at the end, by half":        {7<<20 + 500_000, 16 << 20, 100_000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw := content(tt.size)
			ix, chunks := cut(raw, tt.most)
			target, file := dirty(t, tt.disk)
			var mu sync.Mutex
			var done int64
			w := Writer{Target: target, Chunks: chunks, Progress: func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				done = max(done, n)
			}}
			if err := w.Write(t.Context(), ix); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:len(raw)], raw) {
				t.Errorf("the disk differs from the image at %d", firstDifference(got, raw))
			}
			if done != ix.Size {
				t.Errorf("progress ended at %d, want %d", done, ix.Size)
			}
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// A recorder notes the order of writes, and can fail or lie.
type recorder struct {
	Target
	mu     sync.Mutex
	writes []int64 // offsets; -1 for a sync
	broken bool
	drops  bool
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	r.writes = append(r.writes, off)
	r.mu.Unlock()
	if r.broken && off > 0 {
		return 0, errors.New("input/output error")
	}
	if r.drops {
		return len(p), nil
	}
	return r.Target.WriteAt(p, off)
}

func (r *recorder) Sync() error {
	r.writes = append(r.writes, -1)
	return r.Target.Sync()
}

func TestPartitionTableGoesOnTheDiskLast(t *testing.T) {
	raw := content(12 << 20)
	ix, chunks := cut(raw, 100_000)
	target, _ := dirty(t, 12<<20)
	r := &recorder{Target: target}
	if err := (Writer{Target: r, Chunks: chunks}).Write(t.Context(), ix); err != nil {
		t.Fatal(err)
	}
	end := r.writes[len(r.writes)-5:]
	want := []int64{-1, 11 << 20, -1, 0, -1} // all else safe; the copy; safe; the table; safe
	for i := range want {
		if end[i] != want[i] {
			t.Fatalf("the last writes were %v, want %v", end, want)
		}
	}
}

func TestHalfWrittenDiskDoesNotBoot(t *testing.T) {
	raw := content(12 << 20)
	ix, chunks := cut(raw, 100_000)
	chunks.fail[ix.Chunks[len(ix.Chunks)-1].ID] = fault.Errorf(fault.ChunkCorrupt, "chunk is broken")
	target, file := dirty(t, 12<<20)
	err := Writer{Target: target, Chunks: chunks}.Write(t.Context(), ix)
	if fault.CodeOf(err) != fault.ChunkCorrupt {
		t.Fatalf("Write = %v, want %s", err, fault.ChunkCorrupt)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:1<<20], make([]byte, 1<<20)) {
		t.Error("the first MiB is not blank")
	}
}

func TestDiskThatFailsIsNamed(t *testing.T) {
	raw := content(4 << 20)
	ix, chunks := cut(raw, 100_000)
	for name, r := range map[string]*recorder{"it refuses": {broken: true}, "it drops writes without a word": {drops: true}} {
		t.Run(name, func(t *testing.T) {
			r.Target, _ = dirty(t, 4<<20)
			if err := (Writer{Target: r, Chunks: chunks}).Write(t.Context(), ix); fault.CodeOf(err) != fault.DiskIO {
				t.Errorf("Write = %v, want %s", err, fault.DiskIO)
			}
		})
	}
}

func TestIndexThatMakesNoSenseIsRefused(t *testing.T) {
	raw := content(1 << 20)
	tests := map[string]struct {
		spoil func(*api.ImageIndex)
		want  fault.Code
	}{
		"a hole":               {func(ix *api.ImageIndex) { ix.Chunks[3].Offset++ }, fault.ImageIndex},
		"a missing end":        {func(ix *api.ImageIndex) { ix.Chunks = ix.Chunks[:5] }, fault.ImageIndex},
		"no chunks":            {func(ix *api.ImageIndex) { ix.Chunks = nil; ix.Size = 0 }, fault.ImageIndex},
		"a negative size":      {func(ix *api.ImageIndex) { ix.Chunks[2].Size = -5 }, fault.ImageIndex},
		"a giant chunk":        {func(ix *api.ImageIndex) { ix.Chunks[0].Size = 1 << 40 }, fault.ImageIndex},
		"an ID that is a path": {func(ix *api.ImageIndex) { ix.Chunks[0].ID = "../../etc/passwd" }, fault.ImageIndex},
		"more than it says":    {func(ix *api.ImageIndex) { ix.Size-- }, fault.ImageIndex},
		"larger than the disk": {func(ix *api.ImageIndex) {}, fault.DiskSmall},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ix, chunks := cut(raw, 100_000)
			tt.spoil(&ix)
			size := 2 << 20
			if tt.want == fault.DiskSmall {
				size = 1<<20 - 1
			}
			target, file := dirty(t, size)
			err := Writer{Target: target, Chunks: chunks}.Write(t.Context(), ix)
			if fault.CodeOf(err) != tt.want {
				t.Errorf("Write = %v, want %s", err, tt.want)
			}
			got, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0xee}, size)) {
				t.Errorf("the disk was touched (%v)", err)
			}
		})
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	ix, chunks := cut(content(4<<20), 100_000)
	target, _ := dirty(t, 4<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Writer{Target: target, Chunks: chunks}).Write(ctx, ix); !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v, want %v", err, context.Canceled)
	}
}

func TestWipeLeavesNoSignature(t *testing.T) {
	_, file := dirty(t, 100<<20)
	d := Device{Disk: api.Disk{Name: "test"}, Path: file, Parts: []Part{{First: 10 << 20, Size: 20 << 20}, {First: 90 << 20, Size: 1 << 50}}}
	if err := Wipe(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"head": 0, "end": 99 << 20, "head of a partition": 10 << 20, "end of a partition": 29 << 20, "btrfs": 64 << 20} {
		if n := 100 * 1024; !bytes.Equal(got[at:at+n], make([]byte, n)) {
			t.Errorf("%s is not blank", name)
		}
	}
	if len(got) != 100<<20 || got[50<<20] != 0xee {
		t.Error("wiped more than signatures")
	}
}
