package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

func fileBlob(text string) blob {
	sum := sha256.Sum256([]byte(text))
	return blob{wholeFile, hex.EncodeToString(sum[:])}
}

func packedChunk(t *testing.T, text string) (blob, []byte) {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512_256([]byte(text))
	return blob{chunk, hex.EncodeToString(sum[:])}, w.EncodeAll([]byte(text), nil)
}

// sends is a fetch that sends a text, and counts how often.
func sends(text string, n *atomic.Int64) fetch {
	return func(_ context.Context, w io.Writer) error {
		n.Add(1)
		_, err := io.WriteString(w, text)
		return err
	}
}

func newCache(t *testing.T, dir string, limit int64) *cache {
	t.Helper()
	c, err := openCache(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func content(t *testing.T, c *cache, b blob, f fetch) string {
	t.Helper()
	file, err := c.get(t.Context(), b, 1, f)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	raw, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestContentIsFetchedOnceAndKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	var n atomic.Int64
	for range 2 {
		c := newCache(t, dir, 1<<20)
		for range 3 {
			if got := content(t, c, fileBlob("kernel"), sends("kernel", &n)); got != "kernel" {
				t.Errorf("content %q, want kernel", got)
			}
		}
	}
	if n.Load() != 1 {
		t.Errorf("fetched %d times, want once", n.Load())
	}
}

func TestFiftyThatWantTheSameMakeOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, t.TempDir(), 1<<20)
		var n atomic.Int64
		slow := func(ctx context.Context, w io.Writer) error {
			<-time.After(time.Second)
			return sends("kernel", &n)(ctx, w)
		}
		impatient, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		patient := t.Context()
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				wait := patient
				if i == 0 {
					wait = impatient
				}
				f, err := c.get(wait, fileBlob("kernel"), 6, slow)
				if err != nil && i > 0 {
					t.Errorf("request %d: %v", i, err)
				}
				if err == nil {
					_ = f.Close()
				}
			})
		}
		all.Wait()
		if n.Load() != 1 {
			t.Errorf("fetched %d times, want once", n.Load())
		}
	})
}

func TestContentThatIsNotWhatItsNameSaysIsNeverServed(t *testing.T) {
	b, packed := packedChunk(t, "data")
	other, _ := packedChunk(t, "other")
	tests := map[string]struct {
		blob blob
		sent string
	}{
		"another file":    {fileBlob("kernel"), "trojan"},
		"half a file":     {fileBlob("kernel"), "ker"},
		"nothing":         {fileBlob("kernel"), ""},
		"another chunk":   {other, string(packed)},
		"no chunk at all": {b, "data"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := newCache(t, dir, 1<<20)
			var n atomic.Int64
			if _, err := c.get(t.Context(), tt.blob, 1, sends(tt.sent, &n)); !errors.Is(err, errContent) {
				t.Errorf("error %v, want %v", err, errContent)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 || c.size() != 0 {
				t.Errorf("%d files and %d bytes are left", len(left), c.size())
			}
		})
	}
	var n atomic.Int64
	if got := content(t, newCache(t, t.TempDir(), 1<<20), b, sends(string(packed), &n)); got != string(packed) {
		t.Errorf("a good chunk came out as %q", got)
	}
}

func TestAFileThatWasDamagedOnDiskIsFetchedAgain(t *testing.T) {
	dir := t.TempDir()
	var n atomic.Int64
	b := fileBlob("kernel")
	content(t, newCache(t, dir, 1<<20), b, sends("kernel", &n))
	if err := os.WriteFile(filepath.Join(dir, b.name()), []byte("kerne1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := content(t, newCache(t, dir, 1<<20), b, sends("kernel", &n)); got != "kernel" || n.Load() != 2 {
		t.Errorf("content %q after %d fetches; want kernel after 2", got, n.Load())
	}
}

// TestAFileThatIsDamagedWhileItIsServedIsFetchedAgain writes over a file that
// this very process has checked.
func TestAFileThatIsDamagedWhileItIsServedIsFetchedAgain(t *testing.T) {
	b, packed := packedChunk(t, "data")
	for name, blob := range map[string]blob{"kernel": fileBlob("kernel"), string(packed): b} {
		dir := t.TempDir()
		var n atomic.Int64
		c := newCache(t, dir, 1<<20)
		content(t, c, blob, sends(name, &n))
		if err := os.WriteFile(filepath.Join(dir, blob.name()), bytes.Repeat([]byte("x"), len(name)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := content(t, c, blob, sends(name, &n)); got != name || n.Load() != 2 || c.size() != int64(len(name)) {
			t.Errorf("content %q after %d fetches, %d bytes kept; want %q after 2", got, n.Load(), c.size(), name)
		}
		long := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, blob.name()), long, long); err != nil {
			t.Fatal(err)
		}
		for range 3 { // used again after a long time: read once more, and not fetched
			content(t, c, blob, sends(name, &n))
		}
		if n.Load() != 2 {
			t.Errorf("what was not used for hours was fetched again: %d times", n.Load())
		}
	}
}

// TestWhoSendsWithoutEndFillsNoDisk has a server that never stops.
func TestWhoSendsWithoutEndFillsNoDisk(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 1<<20)
	endless := func(_ context.Context, w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	}
	b, _ := packedChunk(t, "data")
	for _, b := range []blob{fileBlob("kernel"), b} {
		if _, err := c.get(t.Context(), b, 1, endless); !errors.Is(err, errTooMuch) {
			t.Errorf("error %v, want %v", err, errTooMuch)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 || c.fetched.Load() > 2<<20 {
		t.Errorf("%d files are left, %d bytes were taken", len(left), c.fetched.Load())
	}
}

func TestWhatIsHalfWrittenIsRemovedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, partial+"123"), []byte("ker"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := newCache(t, dir, 1<<20); c.size() != 0 {
		t.Errorf("it counts %d bytes", c.size())
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestACacheIsBoundedAndForgetsWhatWasNotUsed(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 100)
	var n atomic.Int64
	texts := map[byte]string{}
	for _, l := range []byte("abcd") {
		texts[l] = strings.Repeat(string(l), 30)
	}
	get := func(l byte) { content(t, c, fileBlob(texts[l]), sends(texts[l], &n)) }
	for _, l := range []byte("abcad") { // b was not used for longest
		get(l)
	}
	for _, l := range []byte("acd") {
		get(l)
	}
	if n.Load() != 4 || c.size() != 90 {
		t.Errorf("%d fetches, %d bytes; want 4 and 90", n.Load(), c.size())
	}
	if get('b'); n.Load() != 5 {
		t.Errorf("%d fetches; want 5: b was the one to go", n.Load())
	}
	again := newCache(t, dir, 50)
	if again.size() > 50 {
		t.Errorf("opened with less room it holds %d bytes", again.size())
	}
}

func TestAFetchThatBreaksOffLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 1<<20)
	broken := func(_ context.Context, w io.Writer) error {
		_, _ = w.Write(bytes.Repeat([]byte("k"), 1000))
		return io.ErrUnexpectedEOF
	}
	if _, err := c.get(t.Context(), fileBlob("kernel"), 1, broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
