package tftp

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tempFile returns an open file with some content.
func tempFile(t *testing.T, b []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, name)
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// taken returns all of a content.
func taken(t *testing.T, c *cache, r io.ReadCloser, size int) []byte {
	t.Helper()
	got, err := c.take(r, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	defer got.close()
	b, err := got.read(make([]byte, size), 0, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAFileIsReadOnceForAll(t *testing.T) {
	want := noise(100_000)
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCache(1<<20, 10)
	var group sync.WaitGroup
	for range 20 {
		f := open(t, name)
		group.Go(func() {
			if got, err := c.take(f, int64(len(want))); err != nil || !bytes.Equal(got.mem, want) {
				t.Errorf("take: %v, %d bytes", err, len(got.mem))
			}
		})
	}
	group.Wait()
	if len(c.files) != 1 || c.held != int64(len(want)) {
		t.Errorf("%d files of %d bytes are held, want one", len(c.files), c.held)
	}
}

func TestAReplacedFileIsAnother(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	c := newCache(1<<20, 10)
	for _, want := range []string{"first", "other"} {
		next := filepath.Join(dir, "next")
		if err := os.WriteFile(next, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, name); err != nil {
			t.Fatal(err)
		}
		if got := taken(t, c, open(t, name), 5); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWhatWasUsedLongestAgoGivesWay(t *testing.T) {
	c := newCache(1000, 10)
	var files []string
	for range 4 {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, noise(300), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	for _, i := range []int{0, 1, 2, 0, 3} {
		taken(t, c, open(t, files[i]), 300)
	}
	if c.held != 900 || len(c.files) != 3 {
		t.Fatalf("%d bytes of %d files are held, want 900 of 3", c.held, len(c.files))
	}
	gone, err := identify(open(t, files[1]), 300)
	if err != nil {
		t.Fatal(err)
	}
	if _, held := c.files[gone]; held {
		t.Error("the file that was used longest ago is still held")
	}
}

func TestAFileTooBigForMemoryIsReadInPlace(t *testing.T) {
	want := noise(5000)
	c := newCache(1000, 1)
	first, err := c.take(tempFile(t, want), 5000)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := first.read(make([]byte, 100), 4900, 100); err != nil || !bytes.Equal(b, want[4900:]) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.take(tempFile(t, want), 5000); err == nil {
		t.Error("a second one is held open, of one that may be")
	}
	first.close()
	if got := taken(t, c, tempFile(t, want), 5000); !bytes.Equal(got, want) {
		t.Error("the content is another")
	}
}

func TestWhatHasAnotherSizeThanItSaysIsNotServed(t *testing.T) {
	c := newCache(1<<20, 10)
	if _, err := c.take(tempFile(t, noise(100)), 101); err == nil {
		t.Error("a file of 100 bytes was taken as one of 101")
	}
	if _, err := c.take(io.NopCloser(strings.NewReader("short")), 100); err == nil {
		t.Error("five bytes were taken as 100")
	}
	if _, err := c.take(io.NopCloser(strings.NewReader("")), mostUnnamed+1); err == nil {
		t.Error("too much was taken into memory")
	}
}
